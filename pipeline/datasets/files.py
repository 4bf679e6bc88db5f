"""Checks of single files: are they there, and are they the bytes that the manifest names."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.datasets.digests import compute_sha256
from pipeline.issues import Issue


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


def check_digest(root: Path, path: str, expected: str, record: str = "") -> Issue | None:
    """Return ``checksum-mismatch`` if the file's sha256 is not the expected one, or None.

    Args:
        root: the dataset's folder.
        path: a file that `check_presence` passed, relative to ``root``.
        expected: hexadecimal sha256.
        record: id of its case.
    """
    try:
        digest = compute_sha256(root / path)
    except OSError as error:
        return Issue("unreadable-file", "error", (error.strerror or str(error)).lower(), record=record, path=path)
    if digest == expected:
        return None
    message = f"sha256 is {digest[:12]}..., the manifest says {expected[:12]}...: the file has changed"
    return Issue("checksum-mismatch", "error", message, record=record, path=path, hint="restore the original file")
