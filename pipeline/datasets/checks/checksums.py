"""Complete a manifest's checksums with the digests that a check computed."""

from dataclasses import replace
from pathlib import Path

from pipeline.datasets.checks.integrity import Report
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.issues import InputError


def add_checksums(path: Path, manifest: Manifest, report: Report) -> int:
    """Write the manifest with the missing sha256 added; existing ones are never replaced.

    Args:
        path: file of the manifest.
        manifest: its content.
        report: of a check that read the files.

    Returns:
        The number of sha256 added.

    Raises:
        InputError: the check found errors.
    """
    if report.errors():
        raise InputError(f"{path}: no sha256 added, because there are errors; see them without --write-checksums")
    digests = {result.case.case_id: result.digests for result in report.results}
    cases = tuple(replace(case, sha256={**digests.get(case.case_id, {}), **case.sha256}) for case in manifest.cases)
    write_manifest(replace(manifest, cases=cases), path)
    return sum(len(new.sha256) - len(old.sha256) for new, old in zip(cases, manifest.cases, strict=True))
