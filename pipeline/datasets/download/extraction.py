"""Unpack a hostile zip or tar file: completely or not at all, files and folders only, nothing outside the folder."""

import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from pipeline.atomic import is_disk_full
from pipeline.datasets.download.members import Limits, Member, check_members, unsafe_archive_error
from pipeline.datasets.download.transfer import find_free_space, full_disk_error
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


def extract(archive: Path, folder: Path, limits: Limits | None = None) -> int:
    """Unpack an archive after checking its names and sizes; owners, permissions and times are ignored.

    Args:
        archive: zip, tar or tar.gz, recognised by content, not by name.
        folder: target; it is an error if a member exists there.
        limits: how much the archive may unpack to.

    Returns:
        The number of files written.

    Raises:
        InputError: the archive is unsafe, damaged or too large for the disk. The caller removes what was written.
    """
    limits = limits or Limits()
    with _translate_damage(archive), _open(archive) as members:
        plan = list(check_members(members, archive, limits))
        needed = sum(member.size for member, _ in plan)
        folder.mkdir(parents=True, exist_ok=True)
        if needed > find_free_space(folder):
            raise full_disk_error(folder, needed)
        return _write_all(plan, archive, folder)


def _write_all(plan: list[tuple[Member, tuple[str, ...]]], archive: Path, folder: Path) -> int:
    from monai.apps.utils import safe_extract_member
    from tqdm import tqdm

    # disable=None: no bar where stderr is not a terminal.
    bar: Any = tqdm(plan, unit="file", desc=f"unpacking {archive.name}", disable=None, leave=False)
    for member, parts in bar:
        try:
            target = Path(safe_extract_member("/".join(parts), str(folder)))
        except ValueError:  # a link in the folder leads out of it
            raise unsafe_archive_error(archive, f"member {member.name!r} would be written outside {folder}") from None
        (target if member.kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
        if member.kind == "file":
            _write_file(member, target, archive)
    return sum(member.kind == "file" for member, _ in plan)


def _write_file(member: Member, target: Path, archive: Path) -> None:
    written = 0
    try:
        # "x": no existing file is overwritten, and no link is followed.
        with cast(IO[bytes], member.open()) as source, open(target, "xb") as stream:
            while block := source.read(_BLOCK):
                written += len(block)
                if written > member.size:
                    raise unsafe_archive_error(archive, f"member {member.name!r} is longer than it claims")
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
def _open(archive: Path) -> Iterator[Iterator[Member]]:
    """Open a zip or tar file and yield its members in order."""
    with open(archive, "rb") as stream:
        head = stream.read(512)
        stream.seek(0)
        if head.startswith(b"PK"):
            with zipfile.ZipFile(stream) as opened:
                check_count(stream, opened)
                yield _list_zip(opened, archive)
        elif (zipped := head.startswith(b"\x1f\x8b")) or head[257:262] == b"ustar":
            with gzip.open(stream) if zipped else nullcontext(stream) as whole:
                short = cast(IO[bytes], _ShortReads(cast(IO[bytes], whole)))
                with tarfile.open(fileobj=short, mode="r:", errorlevel=2) as tar:
                    yield _list_tar(tar, archive)
        else:
            raise InputError(f"{archive} is not a zip, tar or tar.gz file: it begins with {head[:16]!r}; remove it")


def check_count(stream: IO[bytes], opened: zipfile.ZipFile) -> None:
    """Compare the number of members with a zip file's end: a damaged directory can hide its last ones from zipfile."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _LONGEST_END))
    end = stream.read()
    (stated,) = struct.unpack_from("<H", end, end.rfind(b"PK\x05\x06") + 10)
    found = len(opened.infolist())
    if stated not in (found & 0xFFFF, 0xFFFF):  # 0xFFFF: the number needs more than 16 bits
        raise zipfile.BadZipFile(f"it lists {found} members and claims {stated}")


def _list_zip(opened: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    end = 0
    for info in sorted(opened.infolist(), key=lambda info: info.header_offset):
        # Members that share their bytes make the strongest known bomb, without nesting (Fifield, WOOT 2019).
        if info.header_offset < end:
            raise unsafe_archive_error(archive, f"member {info.filename!r} overlaps with another")
        end = info.header_offset + info.compress_size
    for info in opened.infolist():
        # Not `filename`, which ends at a NUL and on Windows hides backslashes.
        yield Member(info.orig_filename, info.file_size, name_zip_kind(info), partial(opened.open, info))


def name_zip_kind(info: zipfile.ZipInfo) -> str:
    """Return ``"file"``, ``"folder"``, or why a member of a zip file is neither."""
    if info.flag_bits & 1:
        return "encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compressed by method {info.compress_type}"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link" if kind == stat.S_IFLNK else "a device or other special file"
    is_folder = info.filename.endswith("/")  # ZipInfo.is_dir() fails on an empty name
    if kind == stat.S_IFDIR and not is_folder:
        return "a folder without a slash"
    return "folder" if is_folder else "file"


class _ShortReads:
    """A stream that refuses reads larger than any valid tar header needs.

    `tarfile` reads a member's extended header in one piece, whatever its claimed length: 8 GB from a few kB of gzip.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek: Callable[..., int] = stream.seek
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > 4 * _BLOCK:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._stream.read(size)


def _list_tar(opened: tarfile.TarFile, archive: Path) -> Iterator[Member]:
    end = 0
    for info in opened:
        yield Member(info.name, info.size, _name_tar_kind(info), partial(opened.extractfile, info))
        end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    _check_end(cast(IO[bytes], opened.fileobj), end, archive)


def _check_end(stream: IO[bytes], end: int, archive: Path) -> None:
    """Read to the end of the file.

    tarfile accepts a file that is cut off between two members, and stops before the checksum at the end of a gzip file.
    """
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut off")
    filling = 0
    while block := stream.read(_BLOCK):
        filling += len(block)
        if filling > _MOST_FILLING:
            raise unsafe_archive_error(archive, f"more than {_MOST_FILLING} bytes follow its last member")


def _name_tar_kind(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return f"a link to {info.linkname!r}"
    if info.issparse():
        return "a sparse file"
    if info.isdir():
        return "folder"
    return "file" if info.isreg() else "a device or other special file"
