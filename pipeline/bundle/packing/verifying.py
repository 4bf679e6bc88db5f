"""Verify a packed bundle: files against their digests, the wheel, the signature, the reference case."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle.audit import Allowances, audit_bundle
from pipeline.bundle.audit.bundle_source import Reader, open_source
from pipeline.bundle.audit.files.archive_checks import LIMITS
from pipeline.bundle.audit.files.suite_wheel import check_wheel
from pipeline.bundle.audit.files.weight_loading import check_twins
from pipeline.bundle.audit.finding import Finding, sort_findings
from pipeline.bundle.audit.inventory import SUMS, check_inventory
from pipeline.bundle.config_files import DOWNLOADS, read_downloads
from pipeline.bundle.packing.reference_case import compare_reference
from pipeline.bundle.packing.signature import SIGNATURE, verify_folder
from pipeline.bundle.packing.travelling_files import SAFE_WEIGHTS, WEIGHTS
from pipeline.bundle.packing.unpacking import find_root, list_fetched
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
    problems = open_source(path).problems
    if any(problem.level == "error" for problem in problems):
        return Verification(sort_findings(problems), [])
    with _open_folder(path, unpacked=key is not None or reference) as place:
        found = _compare_digests(place)
        found = found if found.errors else _compare_weights(place, found)
        if found.errors or (place == path and not (key or reference)):
            return found
        if key is not None:
            verify_folder(place, key, list_fetched(place))
            found.notes[-1] = f"the signature is that of {key}"
        if reference:
            errors = audit_bundle(place, allowances=allowances).errors
            if errors:
                return Verification(sort_findings([*found.findings, *errors]), found.notes)
            found.notes.append(compare_reference(place))
        return found


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
    downloads = read_downloads(reader.read(DOWNLOADS) or b"")
    notes = [f"{name} is to be downloaded" for name in downloads if name not in reader.digests]
    findings += [*reader.problems, *check_inventory(content, reader.digests, downloads)]
    digests = {name: digest for name, digest in reader.digests.items() if name not in downloads}
    return Verification(sort_findings(findings), [*_describe(digests, wheels, findings), *notes][::-1])


def _compare_weights(path: Path, found: Verification) -> Verification:
    """Compare the weights in two formats: a client loads the one, a careful reader looks into the other."""
    source = open_source(path)
    if not {WEIGHTS, SAFE_WEIGHTS} <= source.sizes.keys():
        return found
    reader = Reader(source)
    size = source.sizes[WEIGHTS] + source.sizes[SAFE_WEIGHTS]
    with reader.open(WEIGHTS) as weights, reader.open(SAFE_WEIGHTS) as safe:
        findings = [] if not (weights and safe) else check_twins(WEIGHTS, weights, SAFE_WEIGHTS, safe, size)
        findings = [*reader.problems, *findings]
    same = [] if findings else [f"{WEIGHTS} and {SAFE_WEIGHTS} hold the same tensors"]
    notes = [*found.notes[:-1], *same, found.notes[-1]]  # that about the signature stays the last one
    return Verification(sort_findings([*found.findings, *findings]), notes)


def _describe(digests: dict[str, str], wheels: Sequence[str], findings: Sequence[Finding]) -> Iterator[str]:
    signed = SIGNATURE in digests
    yield "signed, not verified: name the sender's public key with --key" if signed else "not signed"
    if wheels and not any(finding.file in wheels for finding in findings):
        yield "the wheel is the package that is installed here"
    yield f"all {len(digests) - signed - 1} files are as {SUMS} lists them"
