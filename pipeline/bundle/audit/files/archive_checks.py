"""Check the members of a zip file before anything of it is read."""

import stat
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO

from pipeline.bundle.audit.finding import Finding, make_finding, shorten
from pipeline.datasets.download.extraction import check_count, name_zip_kind
from pipeline.datasets.download.members import KnownNames, Limits, add_name, split_name

#: What a bundle may unpack to: configs compress well, weights do not.
LIMITS = Limits(expansion=40.0, members=10_000, depth=16)
_LEAST_TOTAL = 1_000_000  # a small archive of texts may expand more
_WORST_MEMBER = 500  # of one member above a million bytes
_LARGEST_DIRECTORY = 20_000_000
_MOST_FINDINGS = 100


def check_directory(stream: IO[bytes]) -> None:
    """Refuse an archive whose list of members alone would fill the memory.

    Raises:
        zipfile.BadZipFile: it has no list, or one for far too many members.
    """
    end = getattr(zipfile, "_EndRecData")(stream)  # noqa: B009 - also reads the record of large archives
    size = end[5] if end else 0
    if size > _LARGEST_DIRECTORY:
        raise zipfile.BadZipFile(f"its list of members has {size} bytes, more than {_LARGEST_DIRECTORY}")


def check_archive(stream: IO[bytes], infos: Sequence[zipfile.ZipInfo]) -> Iterator[Finding]:
    """Yield what makes an archive unsafe to unpack.

    Args:
        stream: the archive.
        infos: its members.
    """
    with zipfile.ZipFile(stream) as opened:
        check_count(stream, opened)
    if len(infos) > LIMITS.members:
        yield make_finding("too-many-files", "", why=f"{len(infos)} members, more than {LIMITS.members}")
        return
    if min((info.header_offset for info in infos), default=0) > 0:
        # Of an archive that lost its end, zipfile takes the list of the last archive within it, such as a wheel's.
        why = "it does not begin with its first file, so its end is missing or something was put before it"
        yield make_finding("archive-damaged", "", why=why)
        return
    yield from _check_sizes(stream, infos)
    known: KnownNames = {}
    number = 0
    for info in infos:
        # Not `filename`, which ends at a NUL and on Windows hides backslashes.
        for finding in _check_member(info, known):
            yield finding
            number += 1
        if number >= _MOST_FINDINGS:
            return


def _check_member(info: zipfile.ZipInfo, known: KnownNames) -> Iterator[Finding]:
    name = info.orig_filename
    shown = shorten(name)
    kind = name_zip_kind(info)
    if kind not in ("file", "folder"):
        hidden = bool(info.flag_bits & 1) or kind.startswith("compressed")
        yield make_finding("member-encrypted" if hidden else "member-link", "", shown, f"it is {kind}")
        return
    try:
        parts = split_name(name)
        if len(parts) > LIMITS.depth + 1:
            raise ValueError(f"lies deeper than {LIMITS.depth} folders")
    except ValueError as error:
        yield make_finding("member-path", "", shown, f"it {error}")
        return
    try:
        add_name(known, parts, is_folder=kind == "folder")
    except ValueError as error:
        yield make_finding("member-twice", "", shown, f"it {error}")
    if stat.S_IMODE(info.external_attr >> 16) & (stat.S_ISUID | stat.S_ISGID):
        yield make_finding("member-link", "", shown, "it would run with its owner's rights")


def _check_sizes(stream: IO[bytes], infos: Sequence[zipfile.ZipInfo]) -> Iterator[Finding]:
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        # Members that share their bytes make the strongest known bomb, without nesting (Fifield, WOOT 2019).
        if info.header_offset < end:
            yield make_finding("member-bomb", "", shorten(info.orig_filename), "it overlaps with another member")
            return
        end = info.header_offset + info.compress_size
    total = sum(info.file_size for info in infos)
    if total > max(LIMITS.expansion * stream.seek(0, 2), _LEAST_TOTAL):
        why = f"{total} bytes from an archive of {stream.tell()}, more than {LIMITS.expansion:g} times its own size"
        yield make_finding("member-bomb", "", why=why)
    for info in infos:
        if info.file_size > max(_WORST_MEMBER * info.compress_size, 1_000_000):
            why = f"{info.file_size} bytes from {info.compress_size}"
            yield make_finding("member-bomb", "", shorten(info.orig_filename), why)
            return
