"""Write zip files whose bytes depend on nothing but the names and contents of their members."""

import stat
import zipfile
from collections.abc import Mapping
from typing import IO

# The earliest that a zip file can say.
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = stat.S_IFREG | 0o644


def write_zip(stream: IO[bytes], files: Mapping[str, bytes]) -> None:
    """Write a zip file: members sorted by name, one time and mode for all.

    Members are stored, not compressed: the compressed bytes would depend on the version of zlib, and weights hardly
    shrink.

    Args:
        stream: to write to.
        files: contents by path with slashes.

    Example:
        >>> import io
        >>> first, second = io.BytesIO(), io.BytesIO()
        >>> write_zip(first, {"a": b"1", "b": b"2"})
        >>> write_zip(second, {"b": b"2", "a": b"1"})
        >>> first.getvalue() == second.getvalue()
        True
    """
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files):
            info = zipfile.ZipInfo(path, _TIME)
            info.create_system = 3  # Unix, on every system
            info.external_attr = _MODE << 16
            archive.writestr(info, files[path])
