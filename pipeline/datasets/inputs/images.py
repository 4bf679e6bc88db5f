"""Find images for inference: `find_inputs` for stacks of slices, `find_images` for single pictures."""

from __future__ import annotations

import fnmatch
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.inputs.refusals import Inputs, Refuse, keep_going, list_paths
from pipeline.datasets.ordering import slice_key, split_number
from pipeline.issues import InputError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
# Formats that Pillow reads, for a hint.
_FOREIGN = (".gif", ".jp2", ".pgm", ".ppm", ".tga", ".webp")
#: Files next to the images that are not inputs: masks of datasets and outputs of a run
IMAGE_EXCLUDE = (
    *("*_mask.*", "*_mask_[0-9]*.*", "*_segmentation.*", "*_superpixels.*"),
    *("*_pred.*", "*_overlay.*", "*_figure.*", "*_probability*.*", "*_doubt.*"),
)
#: The same for stacks of slices
STACK_EXCLUDE = (*("*_mask.*", "*_mask_[0-9]*.*", "*_pred.*", "*_overlay.*", "*_probability*.*", "*_doubt.*"),)


def find_inputs(
    input: Inputs,
    *,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    exclude: Sequence[str] = STACK_EXCLUDE,
    channels: int | None = None,
    refused: Refuse | None = None,
) -> list[dict[str, Any]]:
    """Find stacks of slices for inference, and check that they can be read before the network starts.

    Args:
        input: a slice file (a stack of one), a patient's folder, or a folder of patients; or several of these, of which
            the slices of one folder are stacked.
        suffixes: endings of image files, compared without case.
        exclude: patterns of names of files that are not images. Hidden files are always ignored.
        channels: required number of channels; None accepts any number.
        refused: gets the path of each input that is refused, and why; by default the first one ends the search.

    Returns:
        Items ``{"case_id", "image": [absolute paths]}``. The files of a folder that differ only in their trailing
        number are one stack, in order of that number; a folder with one stack gives it its name.

    Raises:
        InputError: there is no image, an image cannot be decoded or has another number of channels, or slices of one
            stack differ in size.
    """
    paths, folders = _list_images(
        input, suffixes, exclude, "a slice, or a folder of slices or of patients", refused=refused
    )
    if len(paths) == 1 and os.path.isfile(paths[0]):
        return _require_readable([{"case_id": paths[0].stem, "image": [str(paths[0])]}], channels, refused)
    _require_own_masks(folders)
    stacks = [(files[0].parent.name, *stack) for files in folders if files for stack in _split_stacks(files)]
    names = [name for _, name, _ in stacks]
    items = [
        {"case_id": name if names.count(name) == 1 else f"{folder}_{name}", "image": files}
        for folder, name, files in stacks
    ]
    return _require_readable(items, channels, refused)


def _require_own_masks(folders: Sequence[Sequence[Path]]) -> None:
    """Refuse slices of different places whose folders have one name, because they would get the same mask."""
    seen: dict[str, Path] = {}
    for file in (file for files in folders for file in files):
        first = seen.setdefault(f"{file.parent.name}/{file.stem}".casefold(), file)
        if first.parent != file.parent:
            raise InputError(f"{first} and {file} would get the same mask; rename one folder, or predict them apart")


def _require_readable(
    items: list[dict[str, Any]], channels: int | None, refused: Refuse | None
) -> list[dict[str, Any]]:
    """Return the items whose files can be decoded; reading twice costs little compared to a network."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        problems = [list(_find_unreadable(item["image"], channels, pool)) for item in items]
    every = [problem for found in problems for problem in found]
    if every and refused is None:
        raise InputError(f"{every[0]}{_count_more(every)}")
    for item, found in zip(items, problems, strict=True):
        if found and refused is not None:
            refused(item["image"][0], f"{found[0]}{_count_more(found)}")
    return [item for item, found in zip(items, problems, strict=True) if not found]


def _count_more(problems: Sequence[str]) -> str:
    return f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""


def _find_unreadable(files: Sequence[str], channels: int | None, pool: ThreadPoolExecutor) -> Iterator[str]:
    from pipeline.datasets.files import check_presence
    from pipeline.datasets.probes import ImageError, Probe, probe_image

    def probe(file: str) -> Probe | ImageError:
        problem = check_presence(Path(file).parent, Path(file).name)
        if problem:
            return ImageError(problem.code, problem.message, problem.hint)
        try:
            return probe_image(Path(file), decode=True, is_mask=False)
        except ImageError as error:
            return error
        except OSError as error:
            return ImageError("unreadable-file", f"cannot be read: {(error.strerror or str(error)).lower()}")

    first: Probe | None = None
    for file, found in zip(files, pool.map(probe, files), strict=True):
        if isinstance(found, ImageError):
            yield f"{file}: {found.message}" + (f"; {found.hint}" if found.hint else "")
            continue
        first = first or found
        if channels is not None and found.channels != channels:
            hint = f"the network was trained on slices of {channels} channels, in one file per slice"
            yield f"{file}: has {found.channels} channels, expected {channels}; {hint}"
        elif (found.shape, found.channels) != (first.shape, first.channels):
            yield f"{file}: is {found.shape} x {found.channels}, but {files[0]} is {first.shape} x {first.channels}"


def _split_stacks(files: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    """Yield name and files of each stack among the files of a folder."""
    stacks: dict[str, list[str]] = {}
    for file in files:
        stacks.setdefault(split_number(file.stem)[0], []).append(str(file))
    folder = files[0].parent.name
    for prefix, paths in stacks.items():
        yield folder if len(stacks) == 1 else prefix.rstrip("_- ") or folder, paths


def find_images(
    input: Inputs,
    *,
    channels: int | None = None,
    suffixes: Sequence[str] = IMAGE_SUFFIXES,
    exclude: Sequence[str] = IMAGE_EXCLUDE,
    refused: Refuse | None = None,
) -> list[dict[str, Any]]:
    """Find pictures for inference, one per case, and check that they can be read.

    Args:
        input: a picture, a folder of pictures, or a folder of such folders; or several of these.
        channels: required number of channels. What `pipeline.transforms.DropAlphad` converts is allowed: an additional
            opaque alpha channel, grey saved in colour for one channel, and grey for three. None accepts any number.
        suffixes: endings of image files, compared without case.
        exclude: patterns of names of files that are not images. Hidden files are always ignored.
        refused: gets the path of each input that is refused, and why; by default the first one ends the search.

    Returns:
        Items ``{"case_id", "image": absolute path}``, in the order of folders and names (``x_9`` before ``x_10``). The
        id is the file's stem; if stems repeat, it is the path below ``input`` (``"b/x_9"``), and with the file's
        ending if that repeats too.

    Raises:
        InputError: there is no image, or an image cannot be decoded, has another number of channels or several pages,
            is stored as palette or CMYK, or holds values that are not finite.
    """
    from pipeline.datasets.inputs.input_checks import require_sound
    from pipeline.datasets.manifests.manifest import Case

    paths, folders = _list_images(input, suffixes, exclude, "a picture, or a folder of pictures", refused=refused)
    root = find_root(paths)
    files = [file for folder in folders for file in folder]
    ids = name_files(root, files, [file.suffix for file in files])
    cases = [Case(name, "", (file.relative_to(root).as_posix(),)) for name, file in zip(ids, files, strict=True)]
    sound = {case.case_id for case in require_sound(root, cases, channels, refused)}
    return [{"case_id": name, "image": str(file)} for name, file in zip(ids, files, strict=True) if name in sound]


def find_root(paths: Sequence[Path]) -> Path:
    """Return the folder above all inputs: an input itself if it is the only one and a folder.

    Args:
        paths: absolute paths of files and folders.

    Example:
        >>> find_root([Path("/data/a/x.png"), Path("/data/b/y.png")]).as_posix()
        '/data'
    """
    return Path(os.path.commonpath([path.parent if os.path.isfile(path) else path for path in paths]))


def _list_images(
    input: Inputs, suffixes: Sequence[str], exclude: Sequence[str], expected: str, *, refused: Refuse | None
) -> tuple[list[Path], list[list[Path]]]:
    """Return the absolute paths of the inputs, and the images of each folder."""
    paths = list_paths(input)
    folders: dict[Path, dict[Path, None]] = {}
    for path in paths:
        with keep_going(path, refused):
            for file in _list_images_of(path, suffixes, exclude, expected, alone=len(paths) == 1, refused=refused):
                folders.setdefault(file.parent, {})[file] = None
    found = [sorted(files, key=lambda file: slice_key(file.stem)) for files in folders.values()]
    if not found and refused is None:
        raise InputError(f"no image among {paths[0]} and {len(paths) - 1} more; looked for {', '.join(suffixes)}")
    return paths, found


def _list_images_of(
    path: Path, suffixes: Sequence[str], exclude: Sequence[str], expected: str, *, alone: bool, refused: Refuse | None
) -> list[Path]:
    """Return the images of one input: of the folder, and of each folder in it; a file that is named alone is taken."""
    if os.path.isfile(path):
        if not path.name.lower().endswith(tuple(suffixes)):
            raise InputError(f"{path} is not an image: expected a name ending in {', '.join(suffixes)}{_suggest(path)}")
        return [path] if alone or not _is_excluded(path.name, exclude) else []
    if not os.path.isdir(path):
        raise InputError(f"no such file or folder: {path}; expected {expected}")
    files: list[Path] = []
    folders = [path, *_list_folders(path)]
    for folder in folders:
        with keep_going(folder, refused):
            files += _list_files(folder, suffixes, exclude)
    if not files:
        raise InputError(f"no image in {path} or its {len(folders) - 1} folders; looked for {', '.join(suffixes)}")
    return files


def _list_folders(path: Path) -> list[Path]:
    with _explain_reading():
        return sorted(child for child in path.iterdir() if child.is_dir() and child.name[0] != ".")


@contextmanager
def _explain_reading() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {(error.strerror or '').lower()}") from None


def _is_excluded(name: str, exclude: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(name.lower(), pattern.lower()) for pattern in exclude)


def _suggest(path: Path) -> str:
    """Return the command that makes a PNG file of a picture that Pillow can read and bundles cannot."""
    if path.suffix.lower() not in _FOREIGN:
        return ""
    target = str(path.with_suffix(".png"))
    code = f"from PIL import Image; Image.open({str(path)!r}).convert('RGB').save({target!r})"
    return f"; make a PNG of it: python -c {shlex.quote(code)}"


def name_files(root: Path, files: Sequence[Path], endings: Sequence[str]) -> list[str]:
    """Return a unique id for each file: its stem, else its path below ``root``, else that with its ending.

    Args:
        root: folder above all files, or the only one of them.
        files: files and folders.
        endings: ending to remove from each name; "" for a folder.

    Example:
        >>> files = [Path("a/x.png"), Path("a/b/x.png"), Path("a/y.png"), Path("a/b/x.tif")]
        >>> name_files(Path("a"), files, [".png", ".png", ".png", ".tif"])
        ['x', 'b/x.png', 'y', 'b/x.tif']
    """
    stems = [file.name.removesuffix(ending) for file, ending in zip(files, endings, strict=True)]
    full = [file.relative_to(root).as_posix() if file != root else file.name for file in files]
    short = [name.removesuffix(ending) for name, ending in zip(full, endings, strict=True)]
    # On a disk that ignores case two ids could be the same file.
    stem_count = Counter(name.casefold() for name in stems)
    short_count = Counter(name.casefold() for name in short)
    return [
        stem if stem_count[stem.casefold()] == 1 else path if short_count[path.casefold()] == 1 else name
        for stem, path, name in zip(stems, short, full, strict=True)
    ]


def _list_files(folder: Path, suffixes: Sequence[str], exclude: Iterable[str]) -> list[Path]:
    """Return the images of a folder, without its folders, in the order of their numbers."""
    found = []
    with _explain_reading():
        files = sorted(folder.iterdir(), key=lambda item: slice_key(item.stem))
    for file in files:
        name = file.name.lower()
        hidden = name.startswith(".") or not name.endswith(tuple(suffixes)) or file.is_dir()
        if not hidden and not _is_excluded(name, exclude):
            found.append(file)  # that it is there and not empty is checked with its content
    return found
