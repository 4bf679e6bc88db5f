"""What inference configs call to find their images: `find_inputs` for stacks of slices, `find_images` for pictures."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.ordering import slice_key, split_number
from pipeline.issues import InputError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
#: What lies beside pictures and is none: masks of datasets and what a run writes.
IMAGE_EXCLUDE = (
    *("*_mask.*", "*_segmentation.*", "*_superpixels.*"),
    *("*_pred.*", "*_overlay.*", "*_figure.*"),
)


def find_inputs(
    input: str | os.PathLike[str],
    *,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    exclude: Sequence[str] = ("*_mask.*", "*_pred.*", "*_overlay.*"),
    channels: int | None = None,
) -> list[dict[str, Any]]:
    """Find images for inference, and make sure that they can be read before the network starts.

    Args:
        input: a slice file (a stack of one), a patient's folder, or a folder of patients.
        suffixes: file name endings that are images, compared without case.
        exclude: patterns of file names that are no images. Hidden files are always ignored.
        channels: channels that every image must have; None takes any number.

    Returns:
        Items ``{"case_id", "image": [absolute paths]}``. The files of a folder that differ only in their trailing
        number are one stack, in order of that number; a folder with one stack gives it its name.

    Raises:
        InputError: nothing there, nothing that is an image, an image that cannot be decoded or has other channels, or
            slices of one stack that differ in size.
    """
    path = Path(os.path.abspath(os.path.expanduser(input)))
    if os.path.isfile(path):
        if not path.name.lower().endswith(tuple(suffixes)):
            raise InputError(f"{path} is no image: expected a name ending in {', '.join(suffixes)}")
        return _require_readable([{"case_id": path.stem, "image": [str(path)]}], channels)
    if not os.path.isdir(path):
        raise InputError(f"no such file or folder: {path}; expected a slice, or a folder of slices or of patients")
    try:
        folders = [path, *sorted(child for child in path.iterdir() if child.is_dir() and child.name[0] != ".")]
        stacks = [stack for folder in folders for stack in _find_stacks(folder, suffixes, exclude)]
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {(error.strerror or '').lower()}") from None
    if not stacks:
        raise InputError(f"no image in {path} or its {len(folders) - 1} folders; looked for {', '.join(suffixes)}")
    names = [name for _, name, _ in stacks]
    items = [
        {"case_id": name if names.count(name) == 1 else f"{folder.name}_{name}", "image": files}
        for folder, name, files in stacks
    ]
    return _require_readable(items, channels)


def _require_readable(items: list[dict[str, Any]], channels: int | None) -> list[dict[str, Any]]:
    """Return the items if all their files decode, else raise one line: reading twice costs little beside a network."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        problems = [problem for item in items for problem in _find_unreadable(item["image"], channels, pool)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}")
    return items


def _find_unreadable(files: Sequence[str], channels: int | None, pool: ThreadPoolExecutor) -> Iterator[str]:
    from pipeline.datasets.probes import ImageError, Probe, probe_image

    def probe(file: str) -> Probe | ImageError:
        try:
            return probe_image(Path(file), decode=True, is_mask=False)
        except ImageError as error:
            return error

    first: Probe | None = None
    for file, found in zip(files, pool.map(probe, files), strict=True):
        if isinstance(found, ImageError):
            yield f"{file}: {found.message}" + (f"; {found.hint}" if found.hint else "")
            continue
        first = first or found
        if channels is not None and found.channels != channels:
            yield f"{file}: has {found.channels} channels, expected {channels}"
        elif (found.shape, found.channels) != (first.shape, first.channels):
            yield f"{file}: is {found.shape} x {found.channels}, but {files[0]} is {first.shape} x {first.channels}"


def _find_stacks(folder: Path, suffixes: Sequence[str], exclude: Iterable[str]) -> list[tuple[Path, str, list[str]]]:
    """Return (folder, name, files) of each stack in a folder, not looking into its folders."""
    stacks: dict[str, list[Path]] = {}
    for file in _list_files(folder, suffixes, exclude):
        stacks.setdefault(split_number(file.stem)[0], []).append(file)
    only = folder.name if len(stacks) == 1 else ""
    return [
        (folder, only or prefix.rstrip("_- ") or folder.name, [str(file) for file in files])
        for prefix, files in stacks.items()
    ]


def find_images(
    input: str | os.PathLike[str],
    *,
    channels: int | None = None,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    exclude: Sequence[str] = IMAGE_EXCLUDE,
) -> list[dict[str, Any]]:
    """Find pictures for inference, each a case of its own, and make sure that they can be read.

    Args:
        input: a picture, a folder of pictures, or a folder of such folders.
        channels: channels that every picture must have; an opaque alpha channel more is allowed, for
            `pipeline.transforms.DropAlphad` removes it. None takes any number.
        suffixes: file name endings that are images, compared without case.
        exclude: patterns of file names that are no images. Hidden files are always ignored.

    Returns:
        Items ``{"case_id", "image": absolute path}``, in the order of folders and names (``x_9`` before ``x_10``). The
        id is the file's stem; where stems repeat it is the path below ``input`` (``"b/x_9"``), with the file's ending
        if that repeats too.

    Raises:
        InputError: nothing there, nothing that is an image, or one that cannot be decoded, has other channels or
            several pages, is stored as palette or CMYK, or holds values that are not finite.
    """
    from pipeline.datasets.inputs.input_checks import require_sound
    from pipeline.datasets.manifests.manifest import Case

    path = Path(os.path.abspath(os.path.expanduser(input)))
    root, files = _list_images(path, tuple(suffixes), exclude)
    ids = name_files(root, files, [file.suffix for file in files])
    cases = [Case(name, "", (file.relative_to(root).as_posix(),)) for name, file in zip(ids, files, strict=True)]
    require_sound(root, cases, channels)
    return [{"case_id": name, "image": str(file)} for name, file in zip(ids, files, strict=True)]


def _list_images(path: Path, suffixes: tuple[str, ...], exclude: Iterable[str]) -> tuple[Path, list[Path]]:
    """Return the folder that ids are relative to, and the pictures in it and its folders."""
    if os.path.isfile(path):
        if not path.name.lower().endswith(suffixes):
            raise InputError(f"{path} is no image: expected a name ending in {', '.join(suffixes)}")
        return path.parent, [path]
    if not os.path.isdir(path):
        raise InputError(f"no such file or folder: {path}; expected a picture, or a folder of pictures")
    try:
        folders = [path, *sorted(child for child in path.iterdir() if child.is_dir() and child.name[0] != ".")]
        files = [file for folder in folders for file in _list_files(folder, suffixes, exclude)]
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {(error.strerror or '').lower()}") from None
    if not files:
        raise InputError(f"no image in {path} or its {len(folders) - 1} folders; looked for {', '.join(suffixes)}")
    return path, files


def name_files(root: Path, files: Sequence[Path], endings: Sequence[str]) -> list[str]:
    """Return a unique id for each file: its stem, else its path below ``root``, else that with its ending.

    Args:
        root: folder above all files, or the only one of them.
        files: files and folders.
        endings: what is cut from each name; "" from a folder's.

    Example:
        >>> files = [Path("a/x.png"), Path("a/b/x.png"), Path("a/y.png"), Path("a/b/x.tif")]
        >>> name_files(Path("a"), files, [".png", ".png", ".png", ".tif"])
        ['x', 'b/x.png', 'y', 'b/x.tif']
    """
    stems = [file.name.removesuffix(ending) for file, ending in zip(files, endings, strict=True)]
    full = [file.relative_to(root).as_posix() if file != root else file.name for file in files]
    short = [name.removesuffix(ending) for name, ending in zip(full, endings, strict=True)]
    # A disk that ignores case would give two of these one file.
    stem_count = Counter(name.casefold() for name in stems)
    short_count = Counter(name.casefold() for name in short)
    return [
        stem if stem_count[stem.casefold()] == 1 else path if short_count[path.casefold()] == 1 else name
        for stem, path, name in zip(stems, short, full, strict=True)
    ]


def _list_files(folder: Path, suffixes: Sequence[str], exclude: Iterable[str]) -> list[Path]:
    """Return the images of a folder in the order of their numbers, not looking into its folders."""
    found = []
    for file in sorted(folder.iterdir(), key=lambda item: slice_key(item.stem)):
        name = file.name.lower()
        hidden = name.startswith(".") or not name.endswith(tuple(suffixes)) or not file.is_file()
        if not hidden and not any(fnmatch.fnmatch(name, pattern.lower()) for pattern in exclude):
            found.append(file)
    return found
