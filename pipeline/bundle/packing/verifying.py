"""Verify a packed bundle: files against their digests, the wheel, the signature, the reference case."""

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle.audit import Allowances, audit_bundle
from pipeline.bundle.audit.bundle_source import Reader, open_source
from pipeline.bundle.audit.files.archive_checks import LIMITS
from pipeline.bundle.audit.files.suite_wheel import check_wheel
from pipeline.bundle.audit.finding import Finding, make_finding, sort_findings
from pipeline.bundle.audit.inventory import SUMS, check_inventory
from pipeline.bundle.config_files import DOWNLOADS, read_downloads
from pipeline.bundle.packing.reference_case import compare_reference
from pipeline.bundle.packing.signature import SIGNATURE, verify_folder
from pipeline.bundle.packing.unpacking import find_root
from pipeline.datasets.download.extraction import extract
from pipeline.issues import InputError


@dataclass(frozen=True)
class Verification:
    """What was verified, and what is wrong."""

    findings: tuple[Finding, ...]  #: errors first
    notes: list[str]  #: what was verified, in words

    @property
    def errors(self) -> list[Finding]:
        """The findings that block."""
        return [finding for finding in self.findings if finding.level == "error"]


def verify_bundle(
    path: Path, *, key: Path | None = None, reference: bool = False, allowances: Allowances | None = None
) -> Verification:
    """Verify a packed bundle.

    The reference case runs the bundle's config, so the bundle is audited first, and nothing runs if that finds an
    error.

    Args:
        path: the zip file, or the folder that it was unpacked to.
        key: the sender's public key, if the signature is to be verified.
        reference: compute the reference case and compare.
        allowances: what the receiver allows, for the audit before the reference case.

    Raises:
        InputError: there is no bundle, it was not packed, the signature is wrong, or the reference case differs.
    """
    problems = [*open_source(path).problems, *_find_lost_end(path)]
    if any(problem.level == "error" for problem in problems):
        return Verification(sort_findings(problems), [])
    with _open_folder(path, unpacked=key is not None or reference) as place:
        found = _compare_digests(place)
        if found.errors or (place == path and not (key or reference)):
            return found
        listed = _list_downloads(place) if place.is_dir() else {}
        if key is not None:
            verify_folder(place, key, listed)
            found.notes[-1] = f"the signature is that of {key}"
        if reference:
            errors = [
                finding
                for finding in audit_bundle(place, allowances=allowances).errors
                if finding.code != "extra-file" or finding.file not in listed
            ]
            if errors:
                return Verification(sort_findings([*found.findings, *errors]), found.notes)
            found.notes.append(compare_reference(place))
        return found


def _find_lost_end(path: Path) -> Iterator[Finding]:
    """Yield a finding if an archive lost its end, so that the list of a wheel in it is taken for its own."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            offsets = [info.header_offset for info in archive.infolist()]
        if min(offsets, default=0) > 0:
            why = "it does not begin with its first file, so its end is missing"
            yield make_finding("archive-damaged", "", why=why)


@contextmanager
def _open_folder(path: Path, *, unpacked: bool) -> Iterator[Path]:
    """Yield a bundle's path, or a folder to which its zip file is unpacked and which is removed afterwards."""
    if path.is_dir() or not unpacked:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / "bundle"
        extract(path, stage, LIMITS)
        yield find_root(stage)


def _list_downloads(folder: Path) -> dict[str, str]:
    listed = folder / DOWNLOADS
    return read_downloads(listed.read_bytes()) if listed.is_file() else {}


def _compare_digests(path: Path) -> Verification:
    """Compare every file with its digest, those that were downloaded with that of the list of downloads."""
    source = open_source(path)
    reader = Reader(source)
    findings = list(source.problems)
    wheels = []
    for name in sorted(source.sizes):
        with reader.open(name) as stream:
            if stream is not None and name.endswith(".whl"):
                wheels.append(name)
                findings += check_wheel(name, stream)
    content = reader.read(SUMS)
    if content is None:
        hint = "verify what python -m pipeline bundle pack made; python -m pipeline bundle audit looks at any bundle"
        raise InputError(f"{path} has no {SUMS}; {hint}")
    digests = dict(reader.digests)
    notes = []
    for name, digest in read_downloads(reader.read(DOWNLOADS) or b"").items():
        have = digests.pop(name, None)
        if have is None:
            notes.append(f"{name} is to be downloaded")
        elif have != digest:
            findings.append(make_finding("changed-file", name, "", f"it is not the file that {DOWNLOADS} names"))
    findings += [*reader.problems, *check_inventory(content, digests)]
    return Verification(sort_findings(findings), [*_describe(digests, wheels, findings), *notes][::-1])


def _describe(digests: dict[str, str], wheels: Sequence[str], findings: Sequence[Finding]) -> Iterator[str]:
    signed = SIGNATURE in digests
    yield "signed, not verified: name the sender's public key with --key" if signed else "not signed"
    if wheels and not any(finding.file in wheels for finding in findings):
        yield "the wheel is the package that is installed here"
    yield f"all {len(digests) - signed - 1} files are as {SUMS} lists them"
