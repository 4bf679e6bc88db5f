"""Bring a dataset of the table onto the disk: fetch, compare, unpack, and only then give the folder its name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.datasets.download import transfer
from pipeline.datasets.download.extraction import extract
from pipeline.datasets.download.members import Limits
from pipeline.datasets.download.record import DownloadRecord, ReceivedArchive, read_record, record_path, write_record
from pipeline.datasets.download.sources import Archive, Source
from pipeline.datasets.download.transfer import fetch, find_existing, format_bytes, full_disk_error, tell
from pipeline.issues import InputError

_BLOCK = 1 << 20
# What unpacks to more than ten times the estimate is no such dataset.
_TOLERANCE = 10


@dataclass(frozen=True)
class Wishes:
    """What a user may choose.

    Args:
        url_base: address of a mirror, to which the archives' names are appended; empty takes those of the table.
        keep_archives: leave the archives on the disk when they are unpacked.
        accepted: further sha256 to accept, for archives that the publisher has replaced.
    """

    url_base: str = ""
    keep_archives: bool = False
    accepted: Collection[str] = ()


def archives_folder(out: Path) -> Path:
    """Return where the archives of a dataset's folder are kept while they are needed."""
    return out.with_name(f"{out.name}.archives")


def acquire(source: Source, out: Path, wishes: Wishes | None = None) -> tuple[DownloadRecord, bool]:
    """Download and unpack a dataset.

    At every moment ``out`` either does not exist or is complete. Interrupted or killed, the same call goes on with what
    has arrived.

    Args:
        source: with at least one archive.
        out: the dataset's folder.
        wishes: what the user chose.

    Returns:
        The record, and whether anything had to be done.

    Raises:
        InputError: the folder is taken, the network, an archive or the disk forbids it.
    """
    wishes = wishes or Wishes()
    earlier = read_record(out)
    if earlier is not None and earlier.name != source.name:
        raise InputError(f"{record_path(out)} is the record of {earlier.name}, not of {source.name}; choose another -o")
    if out.is_dir() and earlier is not None:
        return earlier, False
    if os.path.lexists(out) and not _is_empty_folder(out):
        raise InputError(
            f"{out} exists, and no {record_path(out).name} says that it is complete; choose another folder with -o,"
            " or move it away"
        )
    folder = archives_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder), _remove_if_empty(folder):
        shutil.rmtree(_staging_folder(out), ignore_errors=True)  # of a killed process
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
def _lock(folder: Path) -> Iterator[None]:
    """Keep a second process out; the system frees the lock of a killed one."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; two downloads at once are the user's business there
        yield
        return
    with open(folder / ".lock", "wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process is downloading into {folder}; wait for it") from None
        yield


@contextlib.contextmanager
def _remove_if_empty(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        (folder / ".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a part, a kept archive, or something of the user's lies there
            folder.rmdir()


def _check_space(source: Source, folder: Path) -> None:
    """Refuse before the first byte what cannot fit; sizes that nobody states are checked as they become known."""
    needed = 0.0
    for archive in source.archives:
        if archive.size is None:
            continue
        there = sum(path.stat().st_size for path in _find_bytes(folder / archive.file))
        needed += max(0, archive.size - there) + archive.expansion * archive.size
    if needed > shutil.disk_usage(find_existing(folder)).free:
        raise full_disk_error(folder.parent, int(needed))


def _find_bytes(target: Path) -> list[Path]:
    return [path for path in (target, target.with_name(target.name + ".part")) if path.is_file()]


def _receive(archive: Archive, folder: Path, earlier: DownloadRecord | None, wishes: Wishes) -> ReceivedArchive:
    """Fetch an archive, unless it is there, and compare its checksum."""
    target, url = folder / archive.file, ""
    recorded = {found.file: found.sha256 for found in earlier.archives} if earlier else {}
    expected = recorded.get(archive.file, "")
    _restore_rejected(target, wishes.accepted)
    if not target.exists():
        base = wishes.url_base.rstrip("/")
        urls = (f"{base}/{archive.file}",) if base else archive.urls
        tell(f"{archive.file}: {'size unknown' if archive.size is None else format_bytes(archive.size)} from {urls[0]}")
        known = bool(expected or archive.sha256 or archive.md5)
        largest = None if archive.size is None else 2 * archive.size + 10**6
        url = fetch(urls, target, checksum_known=known, largest=largest, patience=transfer.PATIENCE)
    digests = _compute_digests(target, "sha256", *(["md5"] if archive.md5 else []))
    checksum = _judge(archive, digests, expected, wishes.accepted)
    if not checksum:
        rejected = _rejected(target)
        os.replace(target, rejected)
        raise InputError(
            f"checksum-mismatch: {rejected}: sha256 is {digests['sha256']}, expected was"
            f" {_say_expected(archive, expected)}; damaged on the way, or replaced by its publisher: run the same"
            f" command again, or, if the publisher confirms the new file, add --accept {digests['sha256']}"
        )
    return ReceivedArchive(archive.file, url, target.stat().st_size, digests["sha256"], checksum)


def _judge(archive: Archive, digests: dict[str, str], expected: str, accepted: Collection[str]) -> str:
    """Return how far an archive's digest is confirmed, in words; empty if it is the wrong one."""
    if digests["sha256"] in accepted:
        return "accepted by --accept"
    if expected:
        return "equals the record of an earlier download" if digests["sha256"] == expected else ""
    if archive.sha256:
        return archive.describe_checksum() if digests["sha256"] == archive.sha256 else ""
    if archive.md5:
        return archive.describe_checksum() if digests["md5"] == archive.md5 else ""
    return archive.describe_checksum()


def _say_expected(archive: Archive, expected: str) -> str:
    if expected:
        return f"{expected} (record of an earlier download)"
    return f"{archive.sha256 or 'md5 ' + archive.md5} ({archive.evidence})"


def _rejected(target: Path) -> Path:
    return target.with_name(target.name + ".rejected")


def _restore_rejected(target: Path, accepted: Collection[str]) -> None:
    """Take back a file that was refused, if the user accepts it now; gigabytes need not arrive again."""
    rejected = _rejected(target)
    if accepted and rejected.is_file() and _compute_digests(rejected, "sha256")["sha256"] in accepted:
        os.replace(rejected, target)


def _compute_digests(path: Path, *algorithms: str) -> dict[str, str]:
    from tqdm import tqdm

    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    bar: Any = tqdm(
        total=path.stat().st_size, unit="B", unit_scale=True, desc=f"checksum of {path.name}", disable=None, leave=False
    )
    with bar, open(path, "rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            for digest in digests.values():
                digest.update(block)
            bar.update(len(block))
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _unpack(source: Source, folder: Path, out: Path, received: tuple[ReceivedArchive, ...]) -> DownloadRecord:
    """Unpack all archives beside the final name, then rename."""
    staging = _staging_folder(out)
    try:
        files = 0
        for archive in source.archives:
            limits = Limits(expansion=_TOLERANCE * archive.expansion)
            files += extract(folder / archive.file, staging, limits)
            if not (staging / archive.folder).is_dir():
                there = ", ".join(sorted(path.name for path in staging.iterdir())[:5])
                tell(f"warning: {archive.file} was expected to hold the folder {archive.folder}; there are {there}")
        if hasattr(os, "sync"):
            os.sync()  # thousands of files: one call for all, before the name says that they are there
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        # First the record: killed in between, a record without a folder only says which archives are the right ones.
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
