"""Check the names, kinds and sizes of an archive's members before anything is written.

The rules follow Python's ``tarfile.data_filter`` and MONAI's ``safe_extract_member``. They are stricter, because a
dataset needs no links, and also refuse bombs, duplicates and names that collide on other systems.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.issues import InputError

_DRIVE = re.compile(r"[A-Za-z]:")
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST_PART, _LONGEST_NAME = 255, 1024


@dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to.

    Args:
        expansion: bytes unpacked per byte of the archive, over all members: an empty mask alone may well be
            compressed 1000 : 1.
        members: number of files and folders.
        depth: folders above a file.
    """

    expansion: float = 40.0
    members: int = 100_000
    depth: int = 16


@dataclass(frozen=True)
class Member:
    """A member as the archive declares it.

    Args:
        name: as written in the archive.
        size: bytes when unpacked.
        kind: ``"file"``, ``"folder"``, or a description of another kind.
        entry: zipfile's or tarfile's own description of it.
    """

    name: str
    size: int
    kind: str
    entry: Any = None


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
    rules: dict[str, object] = {
        "has a backslash, which is a separator on Windows": "\\" in name,
        "is an absolute path": name.startswith("/"),
        "starts with a drive letter": _DRIVE.match(name),
        "has control characters, or is not in UTF-8": not name.isprintable(),
        f"is longer than {_LONGEST_NAME} bytes": len(name.encode(errors="replace")) > _LONGEST_NAME,
    }
    _apply(rules)
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    for part in parts:
        _check_part(part)
    return parts


def _check_part(part: str) -> None:
    rules: dict[str, object] = {
        "leaves the folder": part == "..",
        f"has a part longer than {_LONGEST_PART} bytes": len(part.encode()) > _LONGEST_PART,
        f"has the part {part!r}, a device on Windows": _WINDOWS_DEVICE.fullmatch(part),
        f"has the part {part!r}, which Windows reads as another name": ":" in part or part[-1] in ". ",
    }
    _apply(rules)


def _apply(rules: dict[str, object]) -> None:
    """Raise the reason of the first rule that is broken."""
    for reason, broken in rules.items():
        if broken:
            raise ValueError(reason)


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
    names = _Names()
    most, total = max(limits.expansion * archive.stat().st_size, 1e6), 0
    for count, member in enumerate(members, start=1):
        shown = repr(member.name if len(member.name) <= 120 else member.name[:120] + "...")
        try:
            parts = split_name(member.name)
            if len(parts) > limits.depth + 1:
                raise ValueError(f"lies deeper than {limits.depth} folders")
            if member.kind not in ("file", "folder"):
                raise ValueError(f"is {member.kind}, expected files and folders")
            names.add(parts, is_folder=member.kind == "folder")
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


class _Names:
    """The names so far, compared as on file systems that ignore case and normalise accents."""

    def __init__(self) -> None:
        self._spelled: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._files: set[tuple[str, ...]] = set()

    def add(self, parts: tuple[str, ...], *, is_folder: bool) -> None:
        """Add a path.

        Raises:
            ValueError: it conflicts with an earlier one.
        """
        folded = tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)
        if not parts and not is_folder:
            raise ValueError("has no name")
        if not is_folder and folded in self._spelled:
            raise ValueError("occurs twice" if self._spelled[folded] == parts else self._collision(folded))
        for length in range(1, len(parts) + 1):
            key = folded[:length]
            if self._spelled.setdefault(key, parts[:length]) != parts[:length]:
                raise ValueError(self._collision(key))
            if key in self._files:
                raise ValueError(f"has a file as its folder, {'/'.join(parts[:length])!r}")
        if not is_folder:
            self._files.add(folded)

    def _collision(self, key: tuple[str, ...]) -> str:
        return f"collides with {'/'.join(self._spelled[key])!r} where case or accents are ignored"
