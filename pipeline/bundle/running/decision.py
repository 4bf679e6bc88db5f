"""Decide whether a bundle may run, and say what its receiver can do if not."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.bundle.audit import Allowances, AuditResult, Finding

#: What the option --allow-code covers.
_CODE = ("code-summary", "bundle-code")
_LIST = "my_allow_list.json"


def list_refused(result: AuditResult, *, allow_code: bool = False) -> list[Finding]:
    """Return the findings that nobody has allowed; nothing runs while there is one.

    Args:
        result: of an audit with the receiver's allow-list.
        allow_code: the receiver allows the bundle's code, and to call it.
    """
    return [one for one in (*result.errors, *result.reviews) if not (allow_code and one.code in _CODE)]


def explain_refusal(
    bundle: Path, result: AuditResult, refused: Sequence[Finding], allowances: Allowances, file: Path | None
) -> str:
    """Return one line: what to do next.

    Args:
        bundle: folder or archive.
        result: of the audit.
        refused: what it found and nobody has allowed.
        allowances: what the receiver allows already.
        file: the receiver's allow-list, if there is one.
    """
    number = f"{len(refused)} finding{'s' * (len(refused) > 1)}"
    head = f"{bundle}: refused, nothing ran: {number} that you have not allowed"
    lost = [finding for finding in refused if not result.digests.get(finding.file)]
    if lost:
        return f"{head}; {lost[0].code} cannot be allowed: {lost[0].todo}"
    entries = allowances.findings | {(one.code, one.file, result.digests[one.file]) for one in refused}
    text = _write_allowances(Allowances(allowances.targets, entries))
    place = file or _suggest_place(bundle)
    code = " (or for code: --allow-code)" if any(one.code == "unexpected-code" for one in refused) else ""
    hint = f"read these places; if you trust all of them, add --allow {place}{code} and write this line into {place}"
    return f"{head}; {hint}: {text}"


def _write_allowances(allowances: Allowances) -> str:
    findings = [dict(zip(("code", "file", "sha256"), entry, strict=True)) for entry in sorted(allowances.findings)]
    targets = {"targets": sorted(allowances.targets)} if allowances.targets else {}
    return json.dumps({**targets, "findings": findings}, ensure_ascii=False)


def _suggest_place(bundle: Path) -> str:
    """Return a path outside of the bundle, from the current folder."""
    inside = bundle.is_dir() and Path.cwd().resolve().is_relative_to(bundle.resolve())
    return os.path.relpath(bundle.resolve().parent / _LIST) if inside else _LIST
