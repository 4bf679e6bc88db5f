"""Fetch a file over HTTP so that nothing that has arrived has to arrive twice."""

from __future__ import annotations

import errno
import http.client
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.datasets.download.connection import InterruptedTransferError, RangeError, RefusedError, Reply, open_at
from pipeline.datasets.download.partial import Origin, PartialFile
from pipeline.issues import InputError

_BLOCK = 1 << 18
# A server that does not say how long a file is must not fill the disk.
_LARGEST_OF_UNKNOWN_SIZE = 64 * 10**9
_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Args:
        timeout: seconds without a byte until a connection counts as lost.
        attempts: failures in a row, none of which brought a byte, until an address is given up.
        first_wait: seconds after the first failure; doubled after each further one.
        longest_wait: seconds; also the most that a server's ``Retry-After`` is obeyed.
    """

    timeout: float = 30.0
    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def compute_wait(self, failures: int, asked: float) -> float:
        """Return seconds to wait after so many failures in a row, of which the server asked for some."""
        return min(max(asked, self.first_wait * 2 ** (failures - 1)), self.longest_wait)


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


def tell(line: str) -> None:
    """Print a line about what is going on to stderr."""
    print(line, file=sys.stderr, flush=True)


def full_disk_error(folder: Path, needed: int | None = None) -> InputError:
    """Return the error for a disk that is, or would be, full."""
    free = shutil.disk_usage(find_existing(folder)).free
    need = "" if needed is None else f", needed are {format_bytes(needed)}"
    return InputError(
        f"output-space: {folder} has {format_bytes(free)} free{need}; free some space or choose another folder with -o"
        " (what has arrived stays, the same command goes on)"
    )


def is_disk_full(error: OSError) -> bool:
    """Tell whether an error means that no space, or no quota, is left."""
    return error.errno in _FULL


def find_existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    checksum_known: bool = False,
    largest: int | None = None,
    patience: Patience = PATIENCE,
) -> str:
    """Download a file to ``target``, going on where an earlier call stopped.

    Until it is complete the file is ``target`` + ``.part``; its content is not judged here.

    Args:
        urls: addresses of the same file; the next one is tried when one gives up.
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
    kept = f"; {format_bytes(part.size)} stay in {part.path}, the same command goes on from there" if part.size else ""
    raise InputError(
        f"cannot download {target.name}: {'; '.join(problems)}{kept}; or bring the file by other means, name it"
        f" {target}, and run the same command again"
    )


def _fetch_from(url: str, part: PartialFile, checksum_known: bool, largest: int, patience: Patience) -> None:
    failures = 0
    while True:
        before = part.size
        try:
            _go_on(url, part, checksum_known, largest, patience.timeout)
            return
        except InterruptedTransferError as error:
            failures = 1 if part.size > before else failures + 1
            if failures >= patience.attempts:
                raise RefusedError(f"{error} (tried {failures} times)") from None
            wait = patience.compute_wait(failures, error.wait)
            tell(f"{error}; trying again in {wait:.0f} s from {format_bytes(part.size)} on")
            time.sleep(wait)


def _go_on(url: str, part: PartialFile, checksum_known: bool, largest: int, timeout: float) -> None:
    """Make one request and keep what it brings; return if the file is complete."""
    start, validator = part.find_resume_point(url, checksum_known=checksum_known)
    origin = part.origin
    if start and origin is not None and origin.url == url and origin.size == start:
        return
    try:
        reply = open_at(url, start, validator, timeout)
    except RangeError as error:
        if error.size == start:
            return
        part.discard()
        raise InterruptedTransferError(f"{url} has other bytes than {part.path.name}; starting again") from None
    with closing(reply.stream):
        _check_size(url, reply, part, largest)
        _place(url, reply, part, start, origin)
        with open(part.path, "ab", buffering=0) as stream:
            _copy(reply, stream, part, largest)


def _check_size(url: str, reply: Reply, part: PartialFile, largest: int) -> None:
    if reply.size is None:
        return
    if reply.size > largest:
        raise RefusedError(f"{url} has {format_bytes(reply.size)}, expected were at most {format_bytes(largest)}")
    if reply.size - reply.start > shutil.disk_usage(find_existing(part.target.parent)).free:
        raise full_disk_error(part.target.parent, reply.size - reply.start)


def _place(url: str, reply: Reply, part: PartialFile, start: int, origin: Origin | None) -> None:
    """Decide whether the reply's bytes go behind those that are there."""
    now = Origin(url, reply.validator, reply.size)
    if reply.start == 0:
        if start:
            tell(f"{url} sent the whole file (it has changed, or the server cannot resume); starting again")
        part.begin(now)
        return
    before = None if origin is None else origin.size
    if None not in (before, reply.size) and before != reply.size:
        part.discard()
        raise InterruptedTransferError(f"{url} now has {reply.size} bytes instead of {before}; starting again")
    part.note(now)


def _copy(reply: Reply, stream: IO[bytes], part: PartialFile, largest: int) -> None:
    from tqdm import tqdm

    position, end = reply.start, reply.size
    # disable=None: no bar where stderr is not a terminal.
    bar: Any = tqdm(
        total=end, initial=position, unit="B", unit_scale=True, desc=part.target.name, disable=None, leave=False
    )
    with bar:
        while end is None or position < end:
            block = _read(reply, _BLOCK if end is None else min(_BLOCK, end - position))
            if not block:
                break
            _write(stream, block)
            position += len(block)
            if position > largest:
                stream.truncate(0)
                raise RefusedError(
                    f"{part.target.name} is longer than {format_bytes(largest)}; look at it in a browser"
                )
            bar.update(len(block))
    if end is not None and position < end:
        raise InterruptedTransferError(f"{part.target.name}: the connection closed at byte {position} of {end}")


def _write(stream: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    while view:
        # Without a buffer, a nearly full disk takes less than it was given before it complains.
        view = view[stream.write(view) :]


def _read(reply: Reply, count: int) -> bytes:
    try:
        # read1 returns what is there: a slow line's bytes are on disk before the next ones arrive.
        return reply.stream.read1(count)
    except (OSError, http.client.HTTPException) as error:
        raise InterruptedTransferError(f"the connection broke: {error or type(error).__name__}") from None
