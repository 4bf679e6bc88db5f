"""Checks of single files: whether they exist, can be read, and have the manifest's checksum."""

import functools
import hashlib
import os
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pipeline.datasets.digests import compute_sha256
from pipeline.issues import Issue

# A larger file is hashed as a stream and opened again by its reader.
MAX_HELD = 64 * 1024 * 1024

#: Size, time of the last change of content and of status (ns), and inode: they change with every write to a file
State = tuple[int, int, int, int]


def is_there(path: Path) -> bool:
    """Return whether a name exists, including dangling links and files without permission."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def locate_file(root: Path, path: str) -> Path:
    """Return the path of a file on disk, where its name may have another Unicode form (NFC, NFD).

    Copies made by macOS have decomposed names, archives made elsewhere composed ones; they look the same.

    Args:
        root: the dataset's folder.
        path: the file, relative to ``root``, POSIX.

    Returns:
        The path that exists, or the path as written if none does.
    """
    target = root / path
    if path.isascii() or is_there(target):
        return target
    here = root
    for part in PurePosixPath(path).parts:
        here = _find_form(here, part)
    return here


def _find_form(folder: Path, name: str) -> Path:
    if name.isascii() or is_there(folder / name):
        return folder / name
    try:
        changed = folder.stat().st_mtime_ns
        return folder / _list_forms(os.fspath(folder), changed).get(unicodedata.normalize("NFC", name), name)
    except OSError:
        return folder / name


@functools.lru_cache(maxsize=64)
def _list_forms(folder: str, changed: int) -> Mapping[str, str]:
    """Return the names in a folder by their composed form; ``changed`` keeps an old listing from being used."""
    return {unicodedata.normalize("NFC", name): name for name in sorted(os.listdir(folder), reverse=True)}


def check_presence(root: Path, path: str, record: str = "") -> Issue | None:
    """Return the reason why a file cannot be read, or None.

    Args:
        root: the dataset's folder.
        path: the file, relative to ``root``.
        record: id of its case.

    Returns:
        ``missing-file``, ``broken-link``, ``not-a-file``, ``unreadable-file`` or ``empty-file``.
    """
    target = os.fspath(locate_file(root, path))
    try:
        problem = _check_status(target, os.stat(target))
    except OSError as error:
        problem = _explain_error(target, error)
    code, message, hint = problem
    return Issue(code, "error", message, record=record, path=path, hint=hint) if code else None


def _explain_error(target: str, error: OSError) -> tuple[str, str, str]:
    """Return code, message and hint for a file without status."""
    if os.path.islink(target):
        hint = "restore the linked file (git annex get, dvc pull) or copy the data"
        return "broken-link", f"link to {os.readlink(target)}, which cannot be followed", hint
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "missing-file", "the file does not exist", ""
    hint = f"let user {os.geteuid()} read its folder: chmod u+rx {os.path.dirname(target)}"
    return "unreadable-file", (error.strerror or str(error)).lower(), hint


def _check_status(target: str, status: os.stat_result) -> tuple[str, str, str]:
    if not stat.S_ISREG(status.st_mode):
        return "not-a-file", "a folder or a device, not a file", "put the image there, or correct the manifest"
    if not os.access(target, os.R_OK):
        return "unreadable-file", f"no permission to read it as user {os.geteuid()}", f"chmod u+r {target}"
    return ("", "", "") if status.st_size else ("empty-file", "the file holds 0 bytes", "")


def read_file(path: Path) -> tuple[bytes | None, str]:
    """Return the bytes and the sha256 of a file in one pass; None instead of the bytes of very large files.

    Raises:
        OSError: the file cannot be read.
    """
    data, digest, _ = read_stable_file(path)
    return data, digest


def read_stable_file(path: Path) -> tuple[bytes | None, str, State | None]:
    """Return the bytes, the sha256 and the state of a file; None as state if it changed during reading.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb", buffering=0) as stream:
        before = os.fstat(stream.fileno())
        if before.st_size > MAX_HELD:
            data, digest = None, compute_sha256(path)
        else:
            data = stream.read()
            digest = hashlib.sha256(data).hexdigest()
        state = take_state(before)
        return data, digest, state if take_state(os.fstat(stream.fileno())) == state else None


def take_state(status: os.stat_result) -> State:
    """Return the parts of a file's status that change with every write, even if its time is restored."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


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
