"""Download a dataset: fetch its archives, compare their checksums, unpack them, then name the folder."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.atomic import format_bytes
from pipeline.datasets.download import transfer
from pipeline.datasets.download.extraction import extract
from pipeline.datasets.download.members import Limits
from pipeline.datasets.download.record import DownloadRecord, ReceivedArchive, read_record, record_path, write_record
from pipeline.datasets.download.sources import Archive, Source
from pipeline.datasets.download.transfer import announce, fetch, find_free_space, full_disk_error
from pipeline.issues import InputError

_BLOCK = 1 << 20
# An archive that unpacks to more than ten times the estimate is not the dataset.
_TOLERANCE = 10


@dataclass(frozen=True)
class Wishes:
    """The user's choices."""

    url_base: str = ""  #: address of a mirror that has the archives under their names; empty: the table's addresses
    keep_archives: bool = False  #: keep the archives on the disk after unpacking
    accepted: Collection[str] = ()  #: further sha256 to accept, for archives that the publisher has replaced


def archives_folder(out: Path) -> Path:
    """Return the folder of a dataset's archives."""
    return out.with_name(f"{out.name}.archives")


def acquire(source: Source, out: Path, wishes: Wishes | None = None) -> tuple[DownloadRecord, bool]:
    """Download and unpack a dataset.

    At every moment ``out`` either does not exist or is complete. Interrupted or killed, the same call resumes.

    Args:
        source: with at least one archive.
        out: the dataset's folder.
        wishes: the user's choices.

    Returns:
        The record, and whether anything was downloaded.

    Raises:
        InputError: the folder holds something else, or the network, an archive or the disk is at fault.
    """
    wishes = wishes or Wishes()
    earlier = read_record(out)
    if earlier is not None and earlier.name != source.name:
        raise InputError(f"{record_path(out)} is the record of {earlier.name}, not of {source.name}; choose another -o")
    if out.is_dir() and earlier is not None:
        return earlier, False
    if os.path.lexists(out) and not _is_empty_folder(out):
        raise InputError(
            f"{out} exists, but {record_path(out).name}, the record of a complete download, does not; choose another"
            " folder with -o, or move this one away"
        )
    folder = archives_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder):
        shutil.rmtree(_staging_folder(out), ignore_errors=True)  # left by a killed process
        _check_space(source, folder)
        received = tuple(_receive(archive, folder, earlier, wishes) for archive in source.archives)
        record = _unpack(source, folder, out, received)
        if not wishes.keep_archives:
            _remove_archives(source, folder)
    return record, True


def _staging_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}.unpacking")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and next(path.iterdir(), None) is None


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep a second process out, and remove the folder if it is empty in the end.

    The system frees the lock of a killed process.
    """
    with open(folder / ".lock", "wb") as stream:
        try:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows has no flock; there the user must not start two downloads at once
            stream.close()
        except BlockingIOError:
            raise InputError(f"another process is downloading into {folder}; wait for it") from None
        try:
            yield
        finally:
            (folder / ".lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds a part, a kept archive or a file of the user
                folder.rmdir()


def _check_space(source: Source, folder: Path) -> None:
    """Refuse a download that cannot fit, before its first byte; unknown sizes are checked on arrival."""
    needed = 0.0
    for archive in source.archives:
        if archive.size is not None:
            found = (folder / name for name in (archive.file, archive.file + ".part"))
            arrived = sum(path.stat().st_size for path in found if path.is_file())
            needed += max(0, archive.size - arrived) + archive.expansion * archive.size
    if needed > find_free_space(folder):
        raise full_disk_error(folder.parent, int(needed))


def _receive(archive: Archive, folder: Path, earlier: DownloadRecord | None, wishes: Wishes) -> ReceivedArchive:
    """Fetch an archive, unless it is there, and compare its checksum."""
    target, url = folder / archive.file, ""
    recorded = earlier.archives if earlier else ()
    expected = next((found.sha256 for found in recorded if found.file == archive.file), "")
    _restore_rejected(target, wishes.accepted)
    if not target.exists():
        url = _fetch(archive, target, wishes.url_base.rstrip("/"), checksum_known=bool(expected))
    digests = _compute_digests(target, "sha256", *(["md5"] if archive.md5 else []))
    checksum = _judge(archive, digests, expected, wishes.accepted)
    if not checksum:
        rejected = _rejected(target)
        os.replace(target, rejected)
        known = f"{expected} (record of an earlier download)" if expected else archive.describe_expected()
        raise InputError(
            f"checksum-mismatch: {rejected}: sha256 is {digests['sha256']}, expected {known}; the file was damaged on"
            " the way or replaced by its publisher: run the same command again, or, if the publisher confirms the new"
            f" file, add --accept {digests['sha256']}"
        )
    return ReceivedArchive(archive.file, url, target.stat().st_size, digests["sha256"], checksum)


def _fetch(archive: Archive, target: Path, url_base: str, *, checksum_known: bool) -> str:
    urls = (f"{url_base}/{archive.file}",) if url_base else archive.urls
    size = "size unknown" if archive.size is None else format_bytes(archive.size)
    announce(f"{archive.file}: {size} from {urls[0]}")
    return fetch(
        urls,
        target,
        checksum_known=checksum_known or bool(archive.sha256 or archive.md5),
        largest=None if archive.size is None else 2 * archive.size + 10**6,
        patience=transfer.PATIENCE,
    )


def _judge(archive: Archive, digests: dict[str, str], expected: str, accepted: Collection[str]) -> str:
    """Return how far an archive's digest is confirmed, in words; empty if it is wrong."""
    if digests["sha256"] in accepted:
        return "accepted by --accept"
    if expected:
        return "equals the record of an earlier download" if digests["sha256"] == expected else ""
    right = digests["sha256"] == archive.sha256 if archive.sha256 else digests.get("md5", "") == archive.md5
    return archive.describe_checksum() if right else ""


def _rejected(target: Path) -> Path:
    return target.with_name(target.name + ".rejected")


def _restore_rejected(target: Path, accepted: Collection[str]) -> None:
    """Restore a rejected file that the user accepts now, so that gigabytes need not be downloaded again."""
    rejected = _rejected(target)
    if accepted and rejected.is_file() and _compute_digests(rejected, "sha256")["sha256"] in accepted:
        os.replace(rejected, target)


def _compute_digests(path: Path, *algorithms: str) -> dict[str, str]:
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with transfer.show_bytes(f"checksum of {path.name}", path.stat().st_size) as bar, open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            for digest in digests.values():
                digest.update(block)
            bar.update(len(block))
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _unpack(source: Source, folder: Path, out: Path, received: tuple[ReceivedArchive, ...]) -> DownloadRecord:
    """Unpack all archives into a hidden folder beside the final one, then rename it."""
    staging, files = _staging_folder(out), 0
    try:
        for archive in source.archives:
            files += extract(folder / archive.file, staging, Limits(expansion=_TOLERANCE * archive.expansion))
            if not (staging / archive.folder).is_dir():
                there = ", ".join(sorted(path.name for path in staging.iterdir())[:5])
                announce(f"warning: {archive.file}: expected the folder {archive.folder}, found {there}")
        if hasattr(os, "sync"):
            os.sync()  # one call for thousands of files, before the final name declares them complete
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        # First the record: after a kill in between, a record without a folder only states the expected archives.
        record = DownloadRecord(source.name, source.page, source.licence, finished, files, received)
        write_record(record, out)
        if _is_empty_folder(out):
            out.rmdir()
        os.replace(staging, out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return record


def _remove_archives(source: Source, folder: Path) -> None:
    for archive in source.archives:
        for path in (folder / archive.file, _rejected(folder / archive.file)):
            path.unlink(missing_ok=True)
