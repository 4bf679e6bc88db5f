"""Fetch a file over HTTP, resuming after every interruption."""

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import urllib3
from urllib3.exceptions import HTTPError

from pipeline.atomic import format_bytes, is_disk_full, write_atomically
from pipeline.datasets.download.connection import InterruptedTransferError, Patience, RefusedError, open_url
from pipeline.issues import InputError

_BLOCK = 1 << 18
_LARGEST_OF_UNKNOWN_SIZE = 64 * 10**9  # a server that does not say how long a file is must not fill the disk
_CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>\d+)-\d+|\*)/(?P<size>\d+|\*)")


PATIENCE = Patience()


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
        " folder (the same command resumes the download)"
    )


def find_free_space(folder: Path) -> int:
    """Return the free bytes of the folder's disk; the folder need not exist."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free


@dataclass(frozen=True)
class Origin:
    """The origin of a part's bytes."""

    url: str  #: the requested address, before redirects
    validator: str  #: the server's name for this version of the file; empty if it has none
    size: int | None  #: bytes of the whole file; None if unknown


class PartialFile:
    """``NAME.part`` next to the final name, and ``NAME.part.json`` with the origin of its bytes.

    Another process can resume from them. Bytes are appended without a buffer, so a killed process leaves all that it
    had received.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def origin(self) -> Origin | None:
        """Origin of the bytes, or None if unknown."""
        try:
            return Origin(**json.loads(self._note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def begin(self, origin: Origin) -> None:
        """Start with no bytes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # First the bytes, then the note: after a kill in between, an old note beside an empty part is harmless.
        self.path.write_bytes(b"")
        self.note(origin)

    def note(self, origin: Origin) -> None:
        """Save the origin of the bytes."""
        with write_atomically(self._note) as stream:
            json.dump(asdict(origin), stream)

    def discard(self) -> None:
        """Remove the part."""
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its final name, after its bytes have reached the disk."""
        with open(self.path, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(self.path, self.target)
        self._note.unlink(missing_ok=True)


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    checksum_known: bool = False,
    largest: int | None = None,
    patience: Patience = PATIENCE,
    headers: Mapping[str, str] | None = None,
    otherwise: str = "",
) -> str:
    """Download a file to ``target``, resuming where an earlier call stopped, and return the address it came from.

    Until it is complete the file is ``target`` + ``.part``. Its content is not checked here.

    Args:
        urls: addresses of the same file; when one fails, the next one is tried.
        target: final name.
        checksum_known: whether the caller will compare a checksum, so that a part may be completed from another
            address, or from a server that names no version of the file.
        largest: bytes at which the transfer is stopped; None stops at 64 GB.
        patience: how long to try.
        headers: sent besides the usual ones, to the addresses' own hosts only.
        otherwise: what the user can do if no address gives the file; "" proposes to save it as ``target``.

    Raises:
        InputError: no address gave the file, or the disk is full; the part stays.
    """
    part = PartialFile(target)
    problems = []
    for url in urls:
        try:
            _Transfer(
                url, part, checksum_known, largest or _LARGEST_OF_UNKNOWN_SIZE, patience, dict(headers or {})
            ).run()
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
    otherwise = otherwise or f"get the file by other means, save it as {target}, and run the same command again"
    raise InputError(f"cannot download {target.name}: {'; '.join(problems)}{kept}; or {otherwise}")


@dataclass(frozen=True)
class _Transfer:
    """The transfer of one file from one address, in as many requests as it takes."""

    url: str
    part: PartialFile
    checksum_known: bool
    largest: int
    patience: Patience
    headers: Mapping[str, str]

    def run(self) -> None:
        """Complete the part."""
        failures = 0
        while True:
            before = self.part.size
            try:
                self._request_rest()
                return
            except InterruptedTransferError as error:
                failures = 1 if self.part.size > before else failures + 1
                if failures >= self.patience.attempts:
                    raise RefusedError(f"{error} (tried {failures} times)") from None
                wait = self.patience.compute_wait(failures, error.wait)
                announce(f"{error}; trying again in {wait:.0f} s from {format_bytes(self.part.size)} on")
                time.sleep(wait)

    def _request_rest(self) -> None:
        """Make one request and keep the bytes it brings; return if the file is complete."""
        url, part, before = self.url, self.part, self.part.origin
        validator = before.validator if before is not None and before.url == url else ""
        # Bytes from another address, or of an unnamed version, are kept only if a checksum will show whether they fit.
        start = part.size if validator or self.checksum_known else 0
        if start and before is not None and (before.url, before.size) == (url, start):
            return
        headers = {**self.headers, **({"Range": f"bytes={start}-"} if start else {})}
        if start and validator:
            # A changed file then comes whole instead of as a part that does not fit (RFC 9110, section 13.1.5).
            headers["If-Range"] = validator
        with closing(open_url(url, headers, self.patience.timeout)) as response:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if response.status == 416:
                if match and match["size"] == str(start):
                    return
                part.discard()
                raise InterruptedTransferError(f"{url} does not fit {part.path.name}; starting again")
            offset, origin = self._read_head(response, match, start)
            self._prepare_part(origin, before, start, offset)
            with open(part.path, "ab", buffering=0) as stream:
                self._copy(response, stream, offset, origin.size)

    def _read_head(
        self, response: urllib3.BaseHTTPResponse, content_range: re.Match[str] | None, start: int
    ) -> tuple[int, Origin]:
        """Return the offset of the body's first byte in the file, and the file's size and version."""
        url, headers = self.url, response.headers
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
            raise RefusedError(f"{url} answered with a web page instead of an archive (a login or sign-in page?)")
        encoding = headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise RefusedError(f"{url} answered with Content-Encoding {encoding}, which was not requested")
        tag = headers.get("ETag", "")
        # A weak tag says that two files mean the same, not that their bytes are the same.
        validator = tag if tag.startswith('"') else headers.get("Last-Modified", "")
        first, size = "0", headers.get("Content-Length", "")
        if response.status == 206:
            if not content_range or content_range["first"] is None:
                raise RefusedError(f"{url} answered 206 without saying which bytes it sends")
            first, size = content_range.groups()
            if int(first) != start:
                raise RefusedError(f"{url} sent bytes from {first} on, requested were those from {start} on")
        return int(first), Origin(url, validator, int(size) if size.isdigit() else None)

    def _prepare_part(self, origin: Origin, before: Origin | None, start: int, offset: int) -> None:
        """Check that the bytes fit on the disk; start the part again unless they continue it."""
        part, folder, size = self.part, self.part.target.parent, origin.size
        if size is not None and size > self.largest:
            raise RefusedError(f"{origin.url} has {format_bytes(size)}, expected at most {format_bytes(self.largest)}")
        if size is not None and size - offset > find_free_space(folder):
            raise full_disk_error(folder, size - offset)
        if offset == 0:
            if start:
                announce(f"{origin.url} sent the whole file (it has changed, or cannot be resumed); starting again")
            part.begin(origin)
            return
        if before is not None and None not in (before.size, size) and before.size != size:
            part.discard()
            raise InterruptedTransferError(f"{origin.url} now has {size} bytes, not {before.size}; starting again")
        part.note(origin)

    def _copy(self, response: urllib3.BaseHTTPResponse, stream: IO[bytes], position: int, end: int | None) -> None:
        name = self.part.target.name
        with show_bytes(name, end, position) as bar:
            while block := _read(response, _BLOCK if end is None else min(_BLOCK, end - position)):
                _write(stream, block)
                position += len(block)
                if position > self.largest:
                    stream.truncate(0)
                    raise RefusedError(f"{name} is longer than {format_bytes(self.largest)}; look at it in a browser")
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
        return response.read1(count, decode_content=False) if count else b""
    except (OSError, HTTPError) as error:
        raise InterruptedTransferError(f"the connection broke: {error or type(error).__name__}") from None
