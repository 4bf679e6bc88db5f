"""The receiver's own allow-list: classes and functions by name, findings by code, file and digest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.bundle.audit.codes import CODES
from pipeline.bundle.audit.finding import Finding
from pipeline.bundle.config_files import read_json, suggest_name
from pipeline.issues import InputError

COVERED = "your allow-list covers it"
_FORM = '{"targets": ["NAME"], "findings": [{"code": "CODE", "file": "PATH", "sha256": "DIGEST"}]}'


@dataclass(frozen=True)
class Allowances:
    """What a receiver has looked at and allows."""

    targets: frozenset[str] = frozenset()  #: classes, functions and modules, as configs write them
    findings: frozenset[tuple[str, str, str]] = field(default_factory=frozenset)  #: code, file, SHA-256 of the file

    def apply(self, findings: Iterable[Finding], digests: Mapping[str, str]) -> list[Finding]:
        """Return the findings; those that are covered are notes."""
        return [
            replace(finding, level="note", todo=COVERED)
            if finding.file and (finding.code, finding.file, digests.get(finding.file, "")) in self.findings
            else finding
            for finding in findings
        ]


def read_allowances(path: Path, bundle: Path) -> Allowances:
    """Read an allow-list.

    Args:
        path: the file; a sender could write one within the bundle, so that is refused.
        bundle: the bundle's folder or archive.

    Raises:
        InputError: the file is missing or wrong; one line with the place.
    """
    if bundle.is_dir() and path.resolve().is_relative_to(bundle.resolve()):
        raise InputError(f"{path} is within the bundle, where its sender could have written it; move it out of there")
    data = read_json(path)
    if not isinstance(data, dict) or set(data) - {"targets", "findings"}:
        raise InputError(f"{path}: expected {_FORM}")
    targets, findings = data.get("targets", []), data.get("findings", [])
    if not isinstance(targets, list) or not all(isinstance(name, str) and name for name in targets):
        raise InputError(f"{path}: targets: expected a list of names; the form is {_FORM}")
    if not isinstance(findings, list):
        raise InputError(f"{path}: findings: expected a list; the form is {_FORM}")
    entries = frozenset(_read_entry(path, index, entry) for index, entry in enumerate(findings))
    return Allowances(frozenset(targets), entries)


def _read_entry(path: Path, index: int, entry: Any) -> tuple[str, str, str]:
    keys = ("code", "file", "sha256")
    if not isinstance(entry, dict) or set(entry) != set(keys) or not all(isinstance(entry[key], str) for key in keys):
        raise InputError(f"{path}: findings[{index}]: expected code, file and sha256; the form is {_FORM}")
    if entry["code"] not in CODES:
        raise InputError(
            f"{path}: findings[{index}]: unknown code {entry['code']!r}; {suggest_name(entry['code'], CODES, most=3)}"
        )
    if len(entry["sha256"]) != 64:
        raise InputError(f"{path}: findings[{index}]: sha256: expected 64 digits; bundle audit --json prints them")
    return entry["code"], entry["file"], entry["sha256"].lower()
