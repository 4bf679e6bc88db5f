"""Fetch a file over HTTP, resuming after every interruption."""

from __future__ import annotations

import errno
import re
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import urllib3
from urllib3.exceptions import HTTPError

from pipeline.datasets.download.connection import InterruptedTransferError, RefusedError, open_url
from pipeline.datasets.download.partial import Origin, PartialFile
from pipeline.issues import InputError

_BLOCK = 1 << 18
# A server that does not say how long a file is must not fill the disk.
_LARGEST_OF_UNKNOWN_SIZE = 64 * 10**9
_CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>\d+)-\d+|\*)/(?P<size>\d+|\*)")
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Args:
        timeout: seconds without a byte after which a connection counts as lost.
        attempts: failures in a row, none of which brought a byte, after which an address is given up.
        first_wait: seconds after the first failure; doubled after each further one.
        longest_wait: seconds; also the most that a server's ``Retry-After`` is obeyed.
    """

    timeout: float = 30.0
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def compute_wait(self, failures: int, requested: float) -> float:
        """Return the seconds to wait after a number of failures in a row; the server requested some of them."""
        return min(max(requested, self.first_wait * 2 ** (failures - 1)), self.longest_wait)


PATIENCE = Patience()


def format_bytes(count: float) -> str:
    """Return a size in decimal units.

    Example:
        >>> format_bytes(43454399), format_bytes(512)
        ('43.5 MB', '512 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def announce(line: str) -> None:
    """Print a line about the progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def show_bytes(title: str, total: int | None, initial: int = 0) -> Any:
    """Return a progress bar of bytes on stderr, if that is a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, initial=initial, unit="B", unit_scale=True, desc=title, disable=None, leave=False)


def full_disk_error(folder: Path, needed: int | None = None) -> InputError:
    """Return the error for a disk that is full, or would be."""
    need = "" if needed is None else f" but {format_bytes(needed)} needed"
    return InputError(
        f"output-space: {folder}: {format_bytes(find_free_space(folder))} free{need}; free some space or choose another"
        " folder with -o (the same command resumes the download)"
    )


def is_disk_full(error: OSError) -> bool:
    """Return whether an error means that no space, or no quota, is left."""
    return error.errno in _FULL


def find_free_space(folder: Path) -> int:
    """Return the free bytes of the folder's disk; the folder need not exist."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    checksum_known: bool = False,
    largest: int | None = None,
    patience: Patience = PATIENCE,
) -> str:
    """Download a file to ``target``, resuming where an earlier call stopped.

    Until it is complete the file is ``target`` + ``.part``. Its content is not checked here.

    Args:
        urls: addresses of the same file; when one fails, the next one is tried.
        target: final name.
        checksum_known: whether the caller will compare a checksum, so that a part may be completed from another
            address, or from a server that names no version of the file.
        largest: bytes at which the transfer is stopped; None stops at 64 GB.
        patience: how long to try.

    Returns:
        The address it came from.

    Raises:
        InputError: no address gave the file, or the disk is full; the part stays.
    """
    part = PartialFile(target)
    problems = []
    for url in urls:
        try:
            _fetch_from(url, part, checksum_known, largest or _LARGEST_OF_UNKNOWN_SIZE, patience)
        except RefusedError as error:
            problems.append(str(error))
        except OSError as error:
            if is_disk_full(error):
                raise full_disk_error(target.parent) from None
            raise
        else:
            part.finish()
            return url
    kept = f"; {format_bytes(part.size)} are kept in {part.path}, the same command resumes there" if part.size else ""
    raise InputError(
        f"cannot download {target.name}: {'; '.join(problems)}{kept}; or get the file by other means, save it as"
        f" {target}, and run the same command again"
    )


def _fetch_from(url: str, part: PartialFile, checksum_known: bool, largest: int, patience: Patience) -> None:
    failures = 0
    while True:
        before = part.size
        try:
            _request_rest(url, part, checksum_known, largest, patience.timeout)
            return
        except InterruptedTransferError as error:
            failures = 1 if part.size > before else failures + 1
            if failures >= patience.attempts:
                raise RefusedError(f"{error} (tried {failures} times)") from None
            wait = patience.compute_wait(failures, error.wait)
            announce(f"{error}; trying again in {wait:.0f} s from {format_bytes(part.size)} on")
            time.sleep(wait)


def _request_rest(url: str, part: PartialFile, checksum_known: bool, largest: int, timeout: float) -> None:
    """Make one request and keep the bytes it brings; return if the file is complete."""
    start, validator = part.find_resume_point(url, checksum_known=checksum_known)
    before = part.origin
    if start and before is not None and (before.url, before.size) == (url, start):
        return
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and validator:
        # A changed file then comes whole instead of as a part that does not fit (RFC 9110, section 13.1.5).
        headers["If-Range"] = validator
    with closing(open_url(url, headers, timeout)) as response:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 416:
            if match and match["size"] == str(start):
                return
            part.discard()
            raise InterruptedTransferError(f"{url} does not fit {part.path.name}; starting again")
        offset, origin = _read_head(response, match, url, start)
        _check_size(origin, offset, part, largest)
        _prepare_part(part, origin, start, offset)
        with open(part.path, "ab", buffering=0) as stream:
            _copy(response, stream, offset, origin.size, part.target.name, largest)


def _read_head(
    response: urllib3.BaseHTTPResponse, content_range: re.Match[str] | None, url: str, start: int
) -> tuple[int, Origin]:
    """Return the offset of the body's first byte in the file, and the file's size and version."""
    headers = response.headers
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
        raise RefusedError(f"{url} answered with a web page instead of an archive (a login or sign-in page?)")
    encoding = headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise RefusedError(f"{url} answered with Content-Encoding {encoding}, which was not requested")
    tag = headers.get("ETag", "")
    # A weak tag says that two files mean the same, not that their bytes are the same.
    validator = tag if tag.startswith('"') else headers.get("Last-Modified", "")
    if response.status == 200:
        length = headers.get("Content-Length", "")
        return 0, Origin(url, validator, int(length) if length.isdigit() else None)
    if not content_range or content_range["first"] is None:
        raise RefusedError(f"{url} answered {response.status} without saying which bytes it sends")
    if int(content_range["first"]) != start:
        raise RefusedError(f"{url} sent bytes from {content_range['first']} on, requested were those from {start} on")
    size = content_range["size"]
    return start, Origin(url, validator, None if size == "*" else int(size))


def _check_size(origin: Origin, offset: int, part: PartialFile, largest: int) -> None:
    if origin.size is None:
        return
    if origin.size > largest:
        raise RefusedError(f"{origin.url} has {format_bytes(origin.size)}, expected at most {format_bytes(largest)}")
    if origin.size - offset > find_free_space(part.target.parent):
        raise full_disk_error(part.target.parent, origin.size - offset)


def _prepare_part(part: PartialFile, origin: Origin, start: int, offset: int) -> None:
    """Start the part again unless the bytes to come continue it."""
    if offset == 0:
        if start:
            announce(f"{origin.url} sent the whole file (it has changed, or cannot be resumed); starting again")
        part.begin(origin)
        return
    before = part.origin
    if before is not None and None not in (before.size, origin.size) and before.size != origin.size:
        part.discard()
        raise InterruptedTransferError(f"{origin.url} now has {origin.size} bytes, not {before.size}; starting again")
    part.note(origin)


def _copy(
    response: urllib3.BaseHTTPResponse, stream: IO[bytes], position: int, end: int | None, name: str, largest: int
) -> None:
    with show_bytes(name, end, position) as bar:
        while end is None or position < end:
            block = _read(response, _BLOCK if end is None else min(_BLOCK, end - position))
            if not block:
                break
            _write(stream, block)
            position += len(block)
            if position > largest:
                stream.truncate(0)
                raise RefusedError(f"{name} is longer than {format_bytes(largest)}; look at it in a browser")
            bar.update(len(block))
    if end is not None and position < end:
        raise InterruptedTransferError(f"{name}: the connection closed at byte {position} of {end}")


def _write(stream: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    while view:
        # Without a buffer, a nearly full disk takes less than it was given before it raises.
        view = view[stream.write(view) :]


def _read(response: urllib3.BaseHTTPResponse, count: int) -> bytes:
    try:
        # read1 returns the bytes at hand: on a slow line they are on disk before the next ones arrive.
        return response.read1(count, decode_content=False)
    except (OSError, HTTPError) as error:
        raise InterruptedTransferError(f"the connection broke: {error or type(error).__name__}") from None
