"""sha256 of files: computed with threads, and read from ``SHA256SUMS`` lists."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pipeline.issues import InputError

T = TypeVar("T")
R = TypeVar("R")


def compute_sha256(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal sha256 of a file.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def map_threads(
    function: Callable[[T], R],
    items: Iterable[T],
    jobs: int | None = None,
    abandon: Callable[[], object] | None = None,
) -> Iterator[R]:
    """Yield ``function(item)`` in the order of the items, computed by ``jobs`` threads (None: one per core).

    Hashing and decoding release Python's global lock, so threads reach the speed of memory. ``abandon`` is called on
    Ctrl-C or another exception, so that running calls can end early.
    """
    with ThreadPoolExecutor(max_workers=jobs or os.cpu_count() or 1) as pool:
        try:
            yield from pool.map(function, items)
        except BaseException:
            # Ctrl-C must not wait for the queue.
            if abandon is not None:
                abandon()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def read_checksums(path: Path) -> dict[str, str]:
    """Read a ``SHA256SUMS`` file (``sha256sum`` format).

    Returns:
        Digest by path, in the order of the file.

    Raises:
        InputError: the file cannot be read, or a line is not a digest and a path.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the checksums {path}: {error}") from None
    digests = {}
    for number, line in enumerate(lines, start=1):
        digest, _, name = line.partition(" ")
        name = name.lstrip(" *").removeprefix("./")
        if not re.fullmatch("[0-9a-f]{64}", digest) or not name:
            raise InputError(f"{path} line {number}: expected '<64 hexadecimal digits>  <path>', got {line[:80]!r}")
        digests[name] = digest
    return digests
