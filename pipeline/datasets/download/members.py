"""Check the names, kinds and sizes of an archive's members before anything is written.

The rules follow Python's ``tarfile.data_filter`` and MONAI's ``safe_extract_member``. They are stricter, because a
dataset needs no links, and also refuse bombs, duplicates and names that collide on other systems.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.issues import InputError

_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST_PART, _LONGEST_NAME = 255, 1024


@dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to."""

    #: bytes unpacked per byte of the archive, over all members: an empty mask alone may well be compressed 1000 : 1
    expansion: float = 40.0
    members: int = 100_000  #: number of files and folders
    depth: int = 16  #: folders above a file


@dataclass(frozen=True)
class Member:
    """A member as the archive declares it."""

    name: str  #: as written in the archive
    size: int  #: bytes when unpacked
    kind: str  #: ``"file"``, ``"folder"``, or a description of another kind
    open: Callable[[], IO[bytes] | None] = lambda: None  #: opens its content


def unsafe_archive_error(archive: Path, detail: str) -> InputError:
    """Return the error for an archive that must not be unpacked."""
    return InputError(
        f"unsafe-archive: {archive}: {detail}; none of its files was kept, do not unpack it by other means either"
    )


def split_name(name: str) -> tuple[str, ...]:
    r"""Return the parts of a member's path.

    Raises:
        ValueError: the member must not be written; the reason is worded to follow its name.

    Example:
        >>> split_name("./set/01//t000.tif")
        ('set', '01', 't000.tif')
        >>> split_name("set/../../x")
        Traceback (most recent call last):
        ValueError: leaves the folder
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    device = next(filter(_WINDOWS_DEVICE.fullmatch, parts), "")
    renamed = next((part for part in parts if ":" in part or part[-1] in ". "), "")
    rules: dict[str, object] = {
        "has a backslash, which is a separator on Windows": "\\" in name,
        "is an absolute path": name.startswith("/"),
        "starts with a drive letter": re.match("[A-Za-z]:", name),
        "has control characters, or is not in UTF-8": not name.isprintable(),
        f"is longer than {_LONGEST_NAME} bytes": _count_bytes(name) > _LONGEST_NAME,
        "leaves the folder": ".." in parts,
        f"has a part longer than {_LONGEST_PART} bytes": max(map(_count_bytes, parts), default=0) > _LONGEST_PART,
        f"has the part {device!r}, a device on Windows": device,
        f"has the part {renamed!r}, which Windows reads as another name": renamed,
    }
    for reason, broken in rules.items():
        if broken:
            raise ValueError(reason)
    return parts


def _count_bytes(name: str) -> int:
    return len(name.encode(errors="replace"))


def check_members(members: Iterable[Member], archive: Path, limits: Limits) -> Iterator[tuple[Member, tuple[str, ...]]]:
    """Yield each member with the parts of its path.

    It stops at the first member beyond a limit, so a bomb is not even listed to its end.

    Args:
        members: in the order of the archive.
        archive: its path, for messages and its size.
        limits: how much it may unpack to.

    Raises:
        InputError: a member must not be written.
    """
    known: KnownNames = {}
    most, total = max(limits.expansion * archive.stat().st_size, 1e6), 0
    for count, member in enumerate(members, start=1):
        shown = repr(member.name if len(member.name) <= 120 else member.name[:120] + "...")
        try:
            parts = split_name(member.name)
            if len(parts) > limits.depth + 1:
                raise ValueError(f"lies deeper than {limits.depth} folders")
            if member.kind not in ("file", "folder"):
                raise ValueError(f"is {member.kind}, expected files and folders")
            add_name(known, parts, is_folder=member.kind == "folder")
        except ValueError as error:
            raise unsafe_archive_error(archive, f"member {shown} {error}") from None
        total += member.size
        if count > limits.members:
            raise unsafe_archive_error(archive, f"it holds more than {limits.members} members")
        if member.size < 0 or total > most:
            raise unsafe_archive_error(
                archive, f"it unpacks to more than {limits.expansion:g} times its own size (at member {shown})"
            )
        yield member, parts


# Paths as file systems compare them that ignore case and normalise accents: how each is spelled, and whether it is a
# file.
KnownNames = dict[tuple[str, ...], tuple[tuple[str, ...], bool]]


def add_name(known: KnownNames, parts: tuple[str, ...], *, is_folder: bool) -> None:
    """Add a path and its folders, or raise `ValueError` if it conflicts with an earlier one."""
    if not parts and not is_folder:
        raise ValueError("has no name")
    folded = tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)
    for length in range(1, len(parts) + 1):
        path, is_file = parts[:length], length == len(parts) and not is_folder
        if folded[:length] not in known:
            known[folded[:length]] = path, is_file
            continue
        spelled, was_file = known[folded[:length]]
        if spelled != path:
            raise ValueError(f"collides with {'/'.join(spelled)!r} where case or accents are ignored")
        if is_file:
            raise ValueError("occurs twice")
        if was_file:
            raise ValueError(f"has a file as its folder, {'/'.join(path)!r}")
