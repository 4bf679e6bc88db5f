"""The files of a bundle, in a folder or a zip file: listed once, read once, never followed out of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol, cast

from pipeline.bundle.audit.files.archive_checks import check_archive, check_directory
from pipeline.bundle.audit.finding import Finding, make_finding
from pipeline.issues import InputError

#: Larger files are weights, or are refused by their size.
SMALL = 8_000_000
MOST_FILES = 10_000
_BLOCK = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


class BundleSource(Protocol):
    """The files of a bundle."""

    name: str  #: of the folder or archive
    sizes: dict[str, int]  #: bytes of every file, by path with slashes
    problems: list[Finding]  #: what is wrong with the container itself

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading in any order."""


class FolderSource:
    """A bundle's folder.

    Args:
        root: the folder. Links in it are findings and are not followed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = root.resolve().name
        self.sizes: dict[str, int] = {}
        self.problems: list[Finding] = []
        for path, entry in _walk(root):
            if len(self.sizes) >= MOST_FILES:
                self.problems.append(make_finding("too-many-files", "", why=f"more than {MOST_FILES} files"))
                break
            self._add(path, entry)

    def _add(self, path: str, entry: os.DirEntry[str]) -> None:
        mode = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(mode.st_mode):
            self.sizes[path] = mode.st_size
        else:
            kind = f"a link to {os.readlink(entry)}" if entry.is_symlink() else "not a regular file"
            self.problems.append(make_finding("member-link", path, why=kind))

    def open(self, path: str) -> IO[bytes]:
        """Open a regular file; no link, and no pipe that would wait for a writer."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        stream = os.fdopen(os.open(self.root / path, flags), "rb")
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            stream.close()
            raise OSError("it is not a regular file any more")
        return stream


def _walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    waiting = [("", root)]
    while waiting:
        prefix, folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((f"{path}/", Path(entry.path)))
                else:
                    yield path, entry


class ZipSource:
    """A bundle in a zip file, whose single top folder, if it has one, is the bundle's.

    Args:
        archive: the file.
    """

    def __init__(self, archive: Path) -> None:
        self.name = archive.name
        self.sizes: dict[str, int] = {}
        self._members: dict[str, str] = {}
        self.problems: list[Finding] = []
        try:
            self._stream = open(archive, "rb")  # noqa: SIM115 - closed with the object
            check_directory(self._stream)
            self._zip: Any = zipfile.ZipFile(self._stream)
            infos = self._zip.infolist()
            self.problems = list(check_archive(self._stream, infos))
        except _DAMAGE as error:
            self.problems = [make_finding("archive-damaged", "", why=str(error) or type(error).__name__)]
            return
        # What is unsafe to unpack is not opened here either.
        if not any(finding.level == "error" for finding in self.problems):
            files = {info.filename: info.file_size for info in infos if not info.filename.endswith("/")}
            top = find_top(list(files))
            self.sizes = {path[len(top) :]: size for path, size in files.items()}
            self._members = {path[len(top) :]: path for path in files}

    def open(self, path: str) -> IO[bytes]:
        """Unpack a member to a nameless temporary file."""
        # The caller closes it.
        target = cast(IO[bytes], tempfile.SpooledTemporaryFile(max_size=4 * SMALL))  # noqa: SIM115
        try:
            with self._zip.open(self._members[path]) as source:
                for block in iter(lambda: source.read(_BLOCK), b""):
                    target.write(block)
        except _DAMAGE as error:
            target.close()
            raise OSError(str(error) or type(error).__name__) from None
        target.seek(0)
        return target


def find_top(paths: list[str]) -> str:
    """Return the folder that all files of an archive lie in, if it holds the bundle's configs; else "".

    Example:
        >>> find_top(["lgg/configs/train.json", "lgg/LICENSE"]), find_top(["configs/train.json"])
        ('lgg/', '')
    """
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    if len(tops) != 1 or any("/" not in path for path in paths):
        return ""
    top = f"{tops.pop()}/"
    return top if any(path.startswith(f"{top}configs/") for path in paths) else ""


def open_source(path: Path) -> BundleSource:
    """Open a bundle's folder or zip file.

    Raises:
        InputError: there is neither; one line.
    """
    if path.is_dir():
        return FolderSource(path)
    if not path.is_file():
        raise InputError(f"there is no bundle {path}; expected a bundle's folder or a zip file")
    with open(path, "rb") as stream:
        head = stream.read(4)
    if not head.startswith(b"PK"):
        raise InputError(f"{path} is not a zip file: it begins with {head!r}; expected a bundle's folder or a zip file")
    return ZipSource(path)


class Reader:
    """Reads each file of a source once and keeps the small ones and all digests.

    Args:
        source: where the files are.
    """

    def __init__(self, source: BundleSource) -> None:
        self.source = source
        self.digests: dict[str, str] = {}
        self.problems: list[Finding] = []
        self._kept: dict[str, bytes] = {}

    def read(self, path: str) -> bytes | None:
        """Return a small file's content; None if it is large or cannot be read."""
        if path not in self.digests and path in self.source.sizes:
            with self.open(path):
                pass
        return self._kept.get(path)

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[IO[bytes] | None]:
        """Open a file, whose digest is taken from the same bytes that are then read; None if it cannot be read."""
        try:
            stream = self.source.open(path)
        except _DAMAGE as error:
            self._refuse(path, error)
            yield None
            return
        with stream:
            try:
                self._digest(path, stream)
            except _DAMAGE as error:
                self._refuse(path, error)
                yield None
                return
            yield stream

    def forget(self, path: str) -> None:
        """Drop a file's content, which is not needed any more."""
        self._kept.pop(path, None)

    def _refuse(self, path: str, error: Exception) -> None:
        self.digests.setdefault(path, "")
        self.problems.append(make_finding("unreadable-file", path, why=str(error) or type(error).__name__))

    def _digest(self, path: str, stream: IO[bytes]) -> None:
        digest, parts, total = hashlib.sha256(), [], 0
        for block in iter(lambda: stream.read(_BLOCK), b""):
            digest.update(block)
            total += len(block)
            if total <= SMALL:
                parts.append(block)
        if total <= SMALL:
            self._kept[path] = b"".join(parts)
        self.digests[path] = digest.hexdigest()
        stream.seek(0)
