"""Get a packed bundle: download it, compare its digest, audit it, and only then give the folder its name."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.atomic import is_disk_full, write_atomically
from pipeline.bundle.audit import Allowances, AuditResult
from pipeline.bundle.packing.unpacking import unpack_bundle
from pipeline.bundle.sharing import hugging_face
from pipeline.bundle.sharing.place import FolderPlace, HubPlace, Place, unquote_name
from pipeline.datasets.download import transfer
from pipeline.datasets.download.acquire import archives_folder, lock_folder
from pipeline.datasets.download.transfer import fetch, find_free_space, full_disk_error
from pipeline.issues import InputError

#: No bundle is larger: weights of 8 billion parameters.
LARGEST = 32 * 10**9
# In it lies what a download cannot resume from.
_WORK = "work"


@dataclass(frozen=True)
class Pulled:
    """What a place gave."""

    place: Place  #: for a hub with the commit
    audit: AuditResult  #: if it has errors, nothing was kept


def pull_bundle(
    place: Place,
    target: Path,
    *,
    digest: str,
    key: Path | None = None,
    allowances: Allowances | None = None,
    allow_code: bool = False,
) -> Pulled:
    """Download a packed bundle, compare its digest, audit it and unpack it.

    At every moment the folder either does not exist or is complete. After an interrupted download the same call
    resumes; after any other failure nothing is left.

    Args:
        place: of the zip file.
        target: the bundle's new folder.
        digest: SHA-256 of the zip file, which the sender told.
        key: the sender's public key, if the signature is to be verified.
        allowances: what the receiver allows.
        allow_code: do not refuse code in the bundle.

    Raises:
        InputError: the place gives no such file, its digest or its signature is another one, or the disk is full.
    """
    if not digest:
        raise InputError(explain_digest(place))
    if os.path.lexists(target):
        raise InputError(f"{target} exists; name a new folder")
    with _make_workplace(target) as folder:
        place, archive = _receive(place, folder, digest)
        stage = folder / _WORK / target.name
        try:
            with _name_place(archive, place):
                _compare(archive, digest)
                result = unpack_bundle(archive, stage, allowances=allowances, allow_code=allow_code, key=key)
            if not result.errors:
                os.rename(stage, target)
        finally:
            archive.unlink(missing_ok=True)
    return Pulled(place, replace(result, name=str(place)))


def explain_digest(place: Place) -> str:
    """Return why a place alone is not enough, and what to type."""
    return (
        f"{place}: which bytes are meant? add #sha256=DIGEST to the place, as bundle push printed it, or --sha256"
        " DIGEST; ask the sender for it, by another way than the file, because whoever keeps the place can change it"
    )


@contextlib.contextmanager
def _make_workplace(target: Path) -> Iterator[Path]:
    """Make a folder beside the target that no second process may use; what is empty in the end is removed."""
    folder = archives_folder(target)
    made = [parent for parent in folder.absolute().parents if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock_folder(folder):
            shutil.rmtree(folder / _WORK, ignore_errors=True)  # left by a killed process
            try:
                yield folder
            finally:
                shutil.rmtree(folder / _WORK, ignore_errors=True)
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it holds the bundle, or a part that resumes
                path.rmdir()


def _receive(place: Place, folder: Path, digest: str) -> tuple[Place, Path]:
    """Return the place, for a hub with the commit, and the file that it gave, whose bytes are still to be compared."""
    if isinstance(place, FolderPlace):
        archive = folder / _WORK / f"{digest[:12]}.zip"
        _copy(_find_file(place.path), archive)
        return place, archive
    if isinstance(place, HubPlace):
        found = hugging_face.find_file(place)
        name, url, headers, place = found.place.file.rpartition("/")[2], found.url, found.headers, found.place
    else:
        name, url, headers = unquote_name(place.url), place.url, {}
    # Parts of another digest have another name.
    archive = folder / f"{digest[:12]}_{Path(name).stem[:60]}.zip"
    fetch(
        [url],
        archive,
        checksum_known=True,
        largest=LARGEST,
        patience=transfer.PATIENCE,
        headers=headers,
        otherwise="get the file by other means, and pull from its path instead of the address",
    )
    return place, archive


def _find_file(path: Path) -> Path:
    """Return the zip file at a path, or the only one in a folder."""
    if path.is_dir():
        found = sorted(path.glob("*.zip"))
        if len(found) == 1:
            return found[0]
        names = ", ".join(file.name for file in found[:5]) or "none"
        raise InputError(f"{path} has {len(found)} zip files, expected one: {names}; name the file")
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected a bundle's zip file; is the share mounted?")
    return path


def _copy(source: Path, target: Path) -> None:
    size = source.stat().st_size
    target.parent.mkdir()
    if size > find_free_space(target.parent):
        raise full_disk_error(target.parent, size)
    try:
        with open(source, "rb") as stream, write_atomically(target, "wb", sync=False) as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
    except OSError as error:
        if is_disk_full(error):
            raise full_disk_error(target.parent, size) from None
        raise


def _compare(archive: Path, digest: str) -> None:
    with open(archive, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != digest:
        raise InputError(
            f"{archive}: sha256 is {found}, expected {digest}: it was damaged on the way, or it is another file;"
            " nothing was kept; ask the sender for the place and the digest"
        )


@contextlib.contextmanager
def _name_place(archive: Path, place: Place) -> Iterator[None]:
    """Name the place in messages about the file, which is gone when they are read."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(archive), str(place))) from error
