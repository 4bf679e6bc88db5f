"""Patterns of paths, such as ``images/*.png`` or ``{subject}_*``: matching, and the parts that wildcards match."""

import re
import unicodedata

from pipeline.datasets.probes import find_ending
from pipeline.issues import InputError

_TOKEN = re.compile(r"(\*\*/|\*|\?|\{subject\})")
_REGEX = {"**/": "(?:.*/)?", "*": "([^/]*)", "?": "([^/])", "{subject}": "(?P<subject>[^/]+?)"}


def split_ending(path: str) -> tuple[str, str]:
    """Split a path into its stem, in composed Unicode (NFC), and its ending, in lower case.

    Example:
        >>> split_ending("a/Scan 1.NII.GZ")
        ('a/Scan 1', '.nii.gz')
    """
    ending = find_ending(path)
    return unicodedata.normalize("NFC", path[: len(path) - len(ending)]), ending


class PathPattern:
    """A pattern of paths relative to the dataset's folder.

    ``*`` matches any part of one name, ``**/`` any number of folders, ``?`` one character, ``{subject}`` the subject,
    as short as the rest allows; everything else matches itself. Case matters, except in the ending. A pattern without
    wildcard is a folder with everything in it. Raises `InputError`, which names the ``option``, if the pattern is
    empty, absolute, or leaves the folder.

    Example:
        >>> pattern = PathPattern("*/masks/*_mask.png", "mask")
        >>> pattern.match("p1/masks/7_mask.PNG"), pattern.match("p1/images/7.png")
        ((('p1',), '7'), None)
    """

    def __init__(self, text: str, option: str) -> None:
        clean = unicodedata.normalize("NFC", text).replace("\\", "/").removeprefix("./")
        if not clean or clean.startswith("/") or ".." in clean.split("/"):
            expected = "expected a pattern relative to the dataset's folder, such as 'images/*.png'"
            raise InputError(f"--{option}: got {text!r}, {expected}")
        if clean.count("{subject}") > 1:
            raise InputError(f"--{option}: {text!r} holds {{subject}} twice; once is enough")
        if not _TOKEN.search(clean):
            clean = clean.rstrip("/") + "/**/*"
        clean += "/*" if clean.endswith("/**") else ""
        self.text = clean
        stem, self.ending = split_ending(clean)
        if not self.ending:
            stem = stem.removesuffix(".*")
        *folders, name = stem.split("/")
        self._folders = folders
        self._name = _compile(name)
        self._path = _compile(stem)

    def match(self, path: str) -> tuple[tuple[str, ...], str] | None:
        """Return the folders that the pattern does not spell out, and the part of the name that wildcards match.

        None if the path does not match.
        """
        stem, ending = split_ending(path)
        if (self.ending and ending != self.ending) or not self._path.fullmatch(stem):
            return None
        *folders, name = stem.split("/")
        spelt = [folder for folder in self._folders if not _TOKEN.search(folder) and folder != "**"]
        for folder in spelt:
            folders.remove(folder)
        match = self._name.fullmatch(name)
        return tuple(folders), _join_groups(match) if match else name

    def find_subject(self, path: str) -> str | None:
        """Return the part of a path's end that ``{subject}`` matches; None if the path does not match.

        Example:
            >>> PathPattern("{subject}_slice*", "subject").find_subject("images/TCGA_1_slice7.png")
            'TCGA_1'
            >>> PathPattern("{subject}/images/*", "subject").find_subject("train/p1/images/7.png")
            'p1'
        """
        stem, ending = split_ending(path)
        if self.ending and ending != self.ending:
            return None
        parts = stem.split("/")
        tail = "/".join(parts[-len(self.text.split("/")) :])
        match = self._path.fullmatch(tail) if "**" not in self.text else self._path.fullmatch(stem)
        return match["subject"] if match else None


def _join_groups(match: re.Match[str]) -> str:
    """Return what the wildcards match, parts with other text between them apart: ``1_11`` is not ``11_1``."""
    joined, end = "", 0
    for number, text in enumerate(match.groups(), start=1):
        if text:  # a wildcard that matches nothing divides nothing
            joined += ("\0" if joined and match.start(number) != end else "") + text
            end = match.end(number)
    return joined


def _compile(text: str) -> re.Pattern[str]:
    return re.compile("".join(_REGEX.get(piece) or re.escape(piece) for piece in _TOKEN.split(text)))
