"""Unpack an audited bundle: to a hidden folder beside the target, which gets its name when everything is right."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.bundle.audit import Allowances, AuditResult, audit_bundle
from pipeline.bundle.audit.bundle_source import FolderSource, Reader, find_top
from pipeline.bundle.audit.files.archive_checks import LIMITS
from pipeline.bundle.audit.finding import COMMAND_LINE
from pipeline.bundle.config_files import DOWNLOADS, read_downloads
from pipeline.bundle.packing.signature import verify_folder
from pipeline.datasets.download.extraction import extract
from pipeline.issues import InputError


def unpack_bundle(
    archive: Path,
    target: Path,
    *,
    allowances: Allowances | None = None,
    allow_code: bool = False,
    key: Path | None = None,
) -> AuditResult:
    """Audit a zip file and unpack it.

    Args:
        archive: the zip file.
        target: the bundle's new folder, which must not exist.
        allowances: what the receiver allows.
        allow_code: do not refuse code in the bundle.
        key: the sender's public key, if the signature is to be verified.

    Returns:
        The audit's result. If it has errors, nothing was unpacked.

    Raises:
        InputError: the target exists, the archive is no zip file, is damaged, is not the file that was audited, or its
            signature is not that of the key.
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
            compare_unpacked(archive, root, result)
            if key is not None:
                verify_folder(root, key, list_fetched(root))
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


def list_fetched(folder: Path) -> dict[str, str]:
    """Return the digests of the files that a receiver downloads into a bundle's folder, by path; "" if not known."""
    listed = folder / DOWNLOADS
    return read_downloads(listed.read_bytes()) if listed.is_file() else {}


def find_change(folder: Path, digests: Mapping[str, str]) -> str:
    """Return the path of a file that was added, removed or changed since an audit; "" if there is none.

    Args:
        folder: of the bundle.
        digests: that the audit found; those of the command line are not of files.
    """
    reader = Reader(FolderSource(folder))
    for path in reader.source.sizes:
        with reader.open(path):
            pass
    wanted = {item for item in digests.items() if not item[0].startswith(COMMAND_LINE)}
    changed = sorted({path for path, _ in set(reader.digests.items()) ^ wanted})
    return (changed or [problem.file for problem in reader.source.problems] or [""])[0]


def compare_unpacked(archive: Path, root: Path, result: AuditResult) -> None:
    """Compare what was unpacked with what was audited: the archive may have changed in between.

    Raises:
        InputError: a file differs.
    """
    changed = find_change(root, result.digests)
    if changed:
        raise InputError(f"{archive} changed while it was unpacked: {changed}; nothing was kept, try again")
