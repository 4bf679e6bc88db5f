"""Unpack a zip or tar file into an empty folder: whole, or not at all; files and folders only, none outside."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

from pipeline.datasets.download.members import Limits, Member, check_members, unsafe_archive_error
from pipeline.datasets.download.transfer import full_disk_error, is_disk_full
from pipeline.issues import InputError

_BLOCK = 1 << 20
_MOST_FILLING = 16 * _BLOCK
_LONGEST_END = 22 + 65535  # a zip file's end record with its comment
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    struct.error,
    UnicodeDecodeError,
)


class _Container(Protocol):
    """What both formats offer."""

    def members(self) -> Iterator[Member]: ...

    def contents(self) -> Iterator[IO[bytes] | None]:
        """Yield a stream for each member, in the same order; None for a folder."""
        ...


def extract(archive: Path, folder: Path, limits: Limits | None = None) -> int:
    """Unpack an archive; its names and sizes are judged before the first byte is written.

    Owners, permissions and times of the archive are not taken over.

    Args:
        archive: zip, tar or tar.gz; told apart by content, not by name.
        folder: where to; members that exist there are an error.
        limits: how much there may be.

    Returns:
        The number of files written.

    Raises:
        InputError: the archive is unsafe, damaged or of another format, or the disk too small. What was written
            until then is for the caller to remove.
    """
    limits = limits or Limits()
    with _translate_damage(archive), _open(archive) as container:
        plan = list(check_members(container.members(), archive, limits))
        needed = sum(member.size for member, _ in plan)
        folder.mkdir(parents=True, exist_ok=True)
        if needed > shutil.disk_usage(folder).free:
            raise full_disk_error(folder, needed)
        return _write_all(plan, container, archive, folder)


def _write_all(plan: list[tuple[Member, tuple[str, ...]]], container: _Container, archive: Path, folder: Path) -> int:
    from tqdm import tqdm

    files = 0
    bar: Any = tqdm(
        zip(plan, container.contents(), strict=True),
        total=len(plan),
        unit="file",
        desc=f"unpacking {archive.name}",
        disable=None,  # no bar where stderr is not a terminal
        leave=False,
    )
    for (member, parts), source in bar:
        target = folder.joinpath(*parts)
        if source is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with source:
            _write_file(source, target, member, archive)
        files += 1
    return files


def _write_file(source: IO[bytes], target: Path, member: Member, archive: Path) -> None:
    written = 0
    try:
        # "x": nothing that exists is overwritten, and no link is followed.
        with open(target, "xb") as stream:
            while block := source.read(_BLOCK):
                written += len(block)
                if written > member.size:
                    raise unsafe_archive_error(archive, f"member {member.name!r} is longer than it says")
                stream.write(block)
    except FileExistsError:
        raise unsafe_archive_error(archive, f"member {member.name!r} exists already, from another archive") from None
    except OSError as error:
        if is_disk_full(error):
            raise full_disk_error(target.parent) from None
        raise
    if written != member.size:
        raise damaged_archive_error(archive, f"member {member.name!r} has {written} bytes instead of {member.size}")


def damaged_archive_error(archive: Path, detail: str) -> InputError:
    """Return the error for an archive that cannot be read to its end."""
    return InputError(f"damaged-archive: {archive}: {detail}; remove it and run the same command again")


@contextmanager
def _translate_damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise damaged_archive_error(archive, str(error) or type(error).__name__) from None
    except NotImplementedError as error:
        raise unsafe_archive_error(archive, str(error)) from None


@contextmanager
def _open(archive: Path) -> Iterator[_Container]:
    with open(archive, "rb") as stream:
        head = stream.read(512)
        stream.seek(0)
        if head.startswith(b"PK"):
            with zipfile.ZipFile(stream) as opened:
                _check_count(stream, opened)
                yield _Zip(opened, archive)
        elif head.startswith(b"\x1f\x8b"):
            with gzip.open(stream) as unzipped, _open_tar(cast(IO[bytes], unzipped)) as tar:
                yield _Tar(tar, archive)
        elif head[257:262] == b"ustar":
            with _open_tar(stream) as tar:
                yield _Tar(tar, archive)
        else:
            raise InputError(f"{archive} is no zip, tar or tar.gz file: it begins with {head[:16]!r}; remove it")


def _check_count(stream: IO[bytes], opened: zipfile.ZipFile) -> None:
    """Compare the number of members with what the end of a zip file says.

    zipfile does not: a damaged directory can hide its last members.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _LONGEST_END))
    end = stream.read()
    (stated,) = struct.unpack_from("<H", end, end.rfind(b"PK\x05\x06") + 10)
    found = len(opened.infolist())
    if stated not in (found & 0xFFFF, 0xFFFF):  # the latter where the number has more than 16 bits
        raise zipfile.BadZipFile(f"it lists {found} members and says that there are {stated}")


class _Zip:
    """A zip file."""

    def __init__(self, opened: zipfile.ZipFile, archive: Path) -> None:
        self._opened, self._archive = opened, archive
        self._infos = opened.infolist()

    def members(self) -> Iterator[Member]:
        end = 0
        for info in sorted(self._infos, key=lambda info: info.header_offset):
            # Members that share their bytes: the strongest bomb known needs no nesting (Fifield, WOOT 2019).
            if info.header_offset < end:
                raise unsafe_archive_error(self._archive, f"member {info.filename!r} overlaps with another one")
            end = info.header_offset + info.compress_size
        for info in self._infos:
            # filename would end at a NUL, and on Windows hides its backslashes.
            yield Member(info.orig_filename, info.file_size, _name_zip_kind(info))

    def contents(self) -> Iterator[IO[bytes] | None]:
        for info in self._infos:
            yield None if _is_zip_folder(info) else self._opened.open(info)


def _is_zip_folder(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith("/")  # ZipInfo.is_dir() fails on an empty name


def _name_zip_kind(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 1:
        return "encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compressed by method {info.compress_type}"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link" if kind == stat.S_IFLNK else "a device or the like"
    if kind == stat.S_IFDIR and not _is_zip_folder(info):
        return "a folder without a slash"
    return "folder" if _is_zip_folder(info) else "file"


class _ShortReads:
    """A stream that refuses a read larger than a tar header can honestly ask for.

    `tarfile` reads a member's extended header in one piece, however long it says it is: 8 GB from a few kB of gzip.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek: Callable[..., int] = stream.seek
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > 4 * _BLOCK:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._stream.read(size)


def _open_tar(stream: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast(IO[bytes], _ShortReads(stream)), mode="r:", errorlevel=2)


class _Tar:
    """A tar file."""

    def __init__(self, opened: tarfile.TarFile, archive: Path) -> None:
        self._opened, self._archive = opened, archive

    def members(self) -> Iterator[Member]:
        end = 0
        for info in self._opened:
            yield Member(info.name, info.size, _name_tar_kind(info))
            end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        self._check_end(end)

    def _check_end(self, end: int) -> None:
        """Read on behind the last member.

        tarfile takes a file that is cut off between two members for a whole one, and stops before the end of a gzip
        file, where its checksum is.
        """
        stream = cast(IO[bytes], self._opened.fileobj)
        stream.seek(end)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it is cut off")
        filling = 0
        while block := stream.read(_BLOCK):
            filling += len(block)
            if filling > _MOST_FILLING:
                raise unsafe_archive_error(self._archive, f"more than {_MOST_FILLING} bytes follow its last member")

    def contents(self) -> Iterator[IO[bytes] | None]:
        for info in self._opened.getmembers():
            yield None if info.isdir() else self._opened.extractfile(info)


def _name_tar_kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return f"a link to {info.linkname!r}"
    if info.issparse():
        return "a sparse file"
    if info.isdir():
        return "folder"
    return "file" if info.isreg() else "a device or the like"
