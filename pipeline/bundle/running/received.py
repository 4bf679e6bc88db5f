"""A received bundle as a folder that runs: the folder itself, or a private copy of what a zip file holds."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.bundle.audit import AuditResult
from pipeline.bundle.audit.files.archive_checks import LIMITS
from pipeline.bundle.packing.unpacking import compare_unpacked, find_change, find_root
from pipeline.datasets.download.extraction import extract
from pipeline.issues import InputError

_BLOCK = 1 << 20
_KEPT = "from_archive"


@contextmanager
def open_received(bundle: Path, digest: str | None) -> Iterator[Path]:
    """Yield a bundle's folder, or a copy of its zip file that nobody else can change, in a folder that is removed.

    Args:
        bundle: folder or zip file.
        digest: the SHA-256 that the zip file must have.

    Raises:
        InputError: it has another one, or a folder cannot have one.
    """
    if bundle.is_dir():
        if digest is not None:
            raise InputError(f"--sha256 is the digest of a zip file, and {bundle} is a folder; name the zip file")
        yield bundle
        return
    with tempfile.TemporaryDirectory(prefix="bundle_") as place:
        copy = Path(place) / bundle.name
        found = hashlib.sha256()
        with open(bundle, "rb") as source, open(copy, "xb") as target:
            while block := source.read(_BLOCK):
                found.update(block)
                target.write(block)
        if digest is not None and digest.lower() != found.hexdigest():
            hint = "ask the sender for the digest and the file"
            raise InputError(f"--sha256: {bundle} has the SHA-256 {found.hexdigest()}, not {digest}; {hint}")
        yield copy


@contextmanager
def open_folder(received: Path, result: AuditResult) -> Iterator[Path]:
    """Yield the folder to run; what a run writes into the copy of a zip file is kept in ``output/NAME``.

    Args:
        received: what `open_received` yields.
        result: of its audit, by which a zip file is unpacked.
    """
    if received.is_dir():
        yield received
        return
    stage = received.parent / "unpacked" / received.stem
    extract(received, stage, LIMITS)
    received.unlink()
    root = find_root(stage)
    compare_unpacked(received, root, result)
    before = _list_states(root)
    try:
        yield root
    finally:
        _keep(root, before, Path("output") / root.name)


def _list_states(root: Path) -> dict[str, tuple[int, int]]:
    files = [path for path in root.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    stats = {path.relative_to(root).as_posix(): path.stat() for path in files}
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}


def _keep(root: Path, before: dict[str, tuple[int, int]], output: Path) -> None:
    """Copy what was written into a folder that will be removed, such as trained weights."""
    written = [path for path, state in _list_states(root).items() if before.get(path) != state]
    if not written:
        return
    names = (f"{_KEPT}_{number}" if number else _KEPT for number in range(10_000))
    folder = next(output / name for name in names if not (output / name).exists())
    for path in written:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)
    print(f"the zip file stays as it was; what the run wrote into the bundle is in {folder}: {', '.join(written)}")


def refuse_changes(folder: Path, result: AuditResult) -> None:
    """Make sure that a folder is still what was audited.

    Raises:
        InputError: a file was changed, added or removed.
    """
    changed = find_change(folder, result.digests)
    if changed:
        raise InputError(f"{folder} changed after it was audited: {changed}; nothing ran, try again")
