"""The files of a downloaded folder (`Listing`), and the manifest that a reader drafts from them (`ManifestDraft`)."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.manifests.manifest import Manifest
from pipeline.issues import InputError, Issue

# Left by operating systems and archives; files that start with a dot are hidden anyway.
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})

_SINGULAR = {"are": "is", "were": "was", "have": "has", "belong": "belongs", "masks": "a mask"}


@dataclass(frozen=True)
class Listing:
    """The files of a downloaded dataset."""

    root: Path  #: the dataset's folder
    files: tuple[str, ...]  #: all files, sorted, relative to ``root``, POSIX
    absent: tuple[str, ...] = ()  #: files that are only known from published checksums, sorted
    #: files that are left out: names with a leading dot (``._x.nii.gz``, ``.DS_Store``), ``Thumbs.db``
    hidden: tuple[str, ...] = ()

    def known(self) -> tuple[str, ...]:
        """Return the files on disk and those that are only known by name, sorted."""
        return tuple(sorted({*self.files, *self.absent}))


@dataclass(frozen=True)
class ManifestDraft:
    """A manifest drafted from a folder."""

    manifest: Manifest  #: the manifest, still without digests and measured facts, which `complete_draft` adds
    #: warnings for the user: files that belong to no case, images without annotation, choices made
    notes: tuple[Issue, ...] = ()
    #: whether the user said what the masks' values mean; then other values are refused, not only noted
    declared: bool = False


def list_files(root: Path, published: Iterable[str] = ()) -> Listing:
    """List a folder and its sub-folders; links are followed, except in circles.

    ``published`` are the files known from published checksums. Raises `InputError` if there is no such folder, or one
    of its folders cannot be read.
    """
    if not os.path.isdir(root):
        raise InputError(f"no such folder: {root}; expected the dataset's folder as downloaded")
    files: list[str] = []
    hidden: list[str] = []
    for path in _walk(os.fspath(root)):
        clutter = any(name.startswith(".") or name.casefold() in _CLUTTER for name in path.split("/"))
        (hidden if clutter else files).append(path)
    absent = sorted(set(published).difference(files))
    return Listing(root, tuple(sorted(files)), tuple(absent), tuple(sorted(hidden)))


def _walk(folder: str, prefix: str = "", above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """Yield the files below a folder; a link to a folder above is not followed."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"cannot read the folder {error.filename}: {(error.strerror or str(error)).lower()}") from None
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    for entry in ordered:
        if _is_folder(entry):
            yield from _walk(entry.path, f"{prefix}{entry.name}/", above | {identity})
        else:
            yield prefix + entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; what is wrong with it is reported where it is used
        return False


def note(code: str, message: str, *, path: str = "", hint: str = "") -> Issue:
    """Return a note of a reader, a warning."""
    return Issue(code, "warning", message, path=path, hint=hint)


def note_names(code: str, what: str, names: Iterable[str], *, hint: str = "") -> tuple[Issue, ...]:
    """Return one note that counts files and names the first; () without names.

    Example:
        >>> note_names("unmatched-file", "belong to no case", ["b.txt", "a.txt"])[0].message
        '2 files belong to no case, for example a.txt'
        >>> note_names("hidden-file", "are hidden and were ignored", [".DS_Store"])[0].message
        '1 file is hidden and was ignored: .DS_Store'
    """
    ordered = sorted(names)
    if not ordered:
        return ()
    if len(ordered) == 1:
        words = " ".join(_SINGULAR.get(word, word) for word in what.split(" "))
        return (note(code, f"1 file {words}: {ordered[0]}", hint=hint),)
    return (note(code, f"{len(ordered)} files {what}, for example {ordered[0]}", hint=hint),)
