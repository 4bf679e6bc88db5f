"""Unpack an audited bundle: to a hidden folder beside the target, which gets its name when everything is right."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.bundle.audit import Allowances, AuditResult, audit_bundle
from pipeline.bundle.audit.bundle_source import FolderSource, Reader, find_top
from pipeline.bundle.audit.files.archive_checks import LIMITS
from pipeline.bundle.audit.inventory import SUMS, check_inventory
from pipeline.datasets.download.extraction import extract
from pipeline.issues import InputError


def unpack_bundle(
    archive: Path, target: Path, *, allowances: Allowances | None = None, allow_code: bool = False
) -> AuditResult:
    """Audit a zip file and unpack it.

    Args:
        archive: the zip file.
        target: the bundle's new folder, which must not exist.
        allowances: what the receiver allows.
        allow_code: do not refuse code in the bundle.

    Returns:
        The audit's result. If it has errors, nothing was unpacked.

    Raises:
        InputError: the target exists, the archive is no zip file, is damaged, or is not the file that was audited.
    """
    if os.path.lexists(target):
        raise InputError(f"{target} exists; name a new folder")
    if archive.is_dir():
        raise InputError(f"{archive} is a folder; expected a bundle's zip file")
    result = audit_bundle(archive, allowances=allowances, allow_code=allow_code)
    if not result.errors:
        with _stage(target) as stage:
            extract(archive, stage, LIMITS)
            root = find_root(stage)
            _compare(archive, root, result)
            os.rename(root, target)
    return result


@contextmanager
def _stage(target: Path) -> Iterator[Path]:
    """Make a folder on the target's disk, which is removed with all that is left in it."""
    stage = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if not target.exists():
            for folder in made:
                folder.rmdir()


def find_root(stage: Path) -> Path:
    """Return the bundle's folder in what was unpacked: the single top folder, if that holds the configs."""
    paths = [path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()]
    return stage / find_top(paths)


def _compare(archive: Path, root: Path, result: AuditResult) -> None:
    """Compare what was unpacked with what was audited: the archive may have changed in between."""
    reader = Reader(FolderSource(root))
    for path in reader.source.sizes:
        with reader.open(path):
            pass
    changed = sorted(set(reader.digests.items()) ^ set(result.digests.items()))
    if changed:
        raise InputError(f"{archive} changed while it was unpacked: {changed[0][0]}; nothing was kept, try again")
    findings = list(check_inventory(reader.read(SUMS), reader.digests))
    if findings:
        raise InputError(f"{archive}: {findings[0].one_line()}")
