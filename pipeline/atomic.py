"""Write a file completely or not at all: a temporary file in the same folder, then a rename; recognise a full disk."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal


@contextlib.contextmanager
def write_atomically(
    path: str | os.PathLike[str], mode: Literal["w", "wb"] = "w", *, sync: bool = True
) -> Iterator[IO[Any]]:
    r"""Open a stream whose content appears under the final name only when all of it is on the disk.

    The temporary file is hidden, has the process's number in its name and is removed on every error. So a reader never
    sees half a file, and the leftovers of a killed process are recognisable.

    Args:
        path: final name; its folder is created.
        mode: ``"w"`` for UTF-8 text with ``\n`` line ends, ``"wb"`` for bytes.
        sync: wait until the disk has the bytes. Without it a power cut may lose the newest files, but writing thousands
            of small files is faster.

    Yields:
        The stream to write to.

    Raises:
        OSError: the file cannot be written; nothing under ``path`` has changed.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a" / "b.txt"
        >>> with write_atomically(target) as stream:
        ...     _ = stream.write("whole")
        >>> target.read_text()
        'whole'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    text = {} if mode == "wb" else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(temporary, mode, **text) as stream:  # type: ignore[call-overload]
            yield stream
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, means that no space or no quota is left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            return True
        error = error.__cause__ or error.__context__
    return False


def format_bytes(count: float) -> str:
    """Return a number of bytes in decimal units.

    Example:
        >>> format_bytes(43454399), format_bytes(512)
        ('43.5 MB', '512 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
