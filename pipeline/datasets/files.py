"""Checks of single files: are they there, and are they the bytes that the manifest names."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from pipeline.datasets.digests import compute_sha256
from pipeline.issues import Issue

# A larger file is hashed as a stream and opened again by its reader.
MAX_HELD = 64 * 1024 * 1024


def is_there(path: Path) -> bool:
    """Return whether a name is taken, be it by a dangling link or by something that may not be looked at."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def check_presence(root: Path, path: str, record: str = "") -> Issue | None:
    """Return what keeps a file from being read, or None.

    Args:
        root: the dataset's folder.
        path: the file, relative to ``root``.
        record: id of its case.

    Returns:
        ``missing-file``, ``broken-link``, ``not-a-file``, ``unreadable-file`` or ``empty-file``.
    """
    target = root / path
    code, message, hint = "", "", ""
    try:
        status = target.stat()
    except OSError as error:
        if os.path.islink(target):
            code, message = "broken-link", f"link to {os.readlink(target)}, which leads nowhere"
            hint = "restore the linked file (git annex get, dvc pull) or copy the data"
        elif isinstance(error, FileNotFoundError | NotADirectoryError):
            code, message = "missing-file", "the file does not exist"
        else:
            code, message = "unreadable-file", (error.strerror or str(error)).lower()
    else:
        if not stat.S_ISREG(status.st_mode):
            code, message = "not-a-file", "a folder or a device, not a file"
        elif not os.access(target, os.R_OK):
            code, message = "unreadable-file", f"no permission to read it as user {os.geteuid()}"
            hint = f"chmod u+r {target}"
        elif status.st_size == 0:
            code, message = "empty-file", "the file holds 0 bytes"
    return Issue(code, "error", message, record=record, path=path, hint=hint) if code else None


def read_file(path: Path) -> tuple[bytes | None, str]:
    """Return the bytes and the sha256 of a file in one pass; no bytes of files that are too large to hold.

    Raises:
        OSError: the file cannot be read.
    """
    if path.stat().st_size > MAX_HELD:
        return None, compute_sha256(path)
    data = path.read_bytes()
    return data, hashlib.sha256(data).hexdigest()


def compare_digest(path: str, digest: str, expected: str, record: str = "") -> Issue | None:
    """Return ``checksum-mismatch`` if a file's sha256 is not the expected one, or None.

    Args:
        path: the file, relative to the dataset's folder.
        digest: its hexadecimal sha256.
        expected: the manifest's.
        record: id of its case.
    """
    if digest == expected:
        return None
    message = f"sha256 is {digest[:12]}..., the manifest says {expected[:12]}...: the file has changed"
    return Issue("checksum-mismatch", "error", message, record=record, path=path, hint="restore the original file")
