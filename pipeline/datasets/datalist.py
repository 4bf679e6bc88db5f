"""`load_datalist`, the one function that training configs call, and `find_inputs`, the one of inference configs."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.datasets.files import locate_file
from pipeline.datasets.manifest import Case, Manifest, read_manifest, split_fragment
from pipeline.datasets.ordering import slice_key, split_number
from pipeline.flags import read_flag
from pipeline.issues import InputError, summarise

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

SELECTIONS = ("train", "val", "test", "all")
IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")


def load_datalist(
    manifest: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    split: Literal["train", "val", "test", "all"],
    fold: int | str | None = 0,
    *,
    repeat: int = 1,
    check: bool | str = True,
    allow_missing: bool | str = False,
) -> list[dict[str, Any]]:
    """Load the cases of a split as MONAI datalist.

    Args:
        manifest: manifest file.
        dataset_dir: folder that the manifest's paths are relative to.
        split: ``"train"``: cases that are not test and not of ``fold``; ``"val"``: cases of ``fold``; ``"test"``;
            ``"all"``. Cases without a fold keep the split that the manifest gives them.
        fold: number of the validation fold, or the name of a named split, whose cases are then ``"val"``; None uses
            the manifest's own splits and no folds.
        repeat: how often each case is listed, for datasets where one sample is a slice of a case.
        check: check presence, sha256 and pixels of every file (the checksum of a file that was damaged from the start
            is right); all problems are found before training starts. Files that have not changed since they were last
            read are not read again, see `pipeline.datasets.cache`.
        allow_missing: leave out cases none of whose files exist, instead of an error.

    Returns:
        Items ``{"case_id", "subject", "image": [absolute paths], "label": [absolute paths]}``; no label without mask.
        The image of a DICOM series is its folder, which `LoadImaged` with `ITKReader` reads as one volume.

    Raises:
        InputError: one line: what is wrong, how many more problems there are, and the command that lists them all.
    """
    if split not in SELECTIONS:
        raise InputError(f"split must be one of {', '.join(SELECTIONS)}, got {split!r}")
    if isinstance(repeat, bool) or not isinstance(repeat, int) or repeat < 1:
        raise InputError(f"repeat must be an integer from 1, got {repeat!r}")
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    data = read_manifest(manifest, root)
    cases = select_cases(data, split, fold)
    if not cases:
        raise InputError(f"{manifest}: no case is selected by split {split!r} and fold {fold!r}")
    _require_dataset(data, root, cases)
    if read_flag(allow_missing, "allow_missing"):
        from pipeline.datasets.integrity import is_present

        cases = [case for case in cases if is_present(case, root)]
    if read_flag(check, "check"):
        _require_intact(data, root, cases, manifest)
    items = [_item(case, root) for case in cases]
    if data.stacking == "series":
        from pipeline.datasets.dicom_series import require_folders

        folders = require_folders(cases, root, manifest)
        # MONAI's ITKReader would make channels of a list of slices; a folder it reads as one volume.
        items = [{**item, "image": folders[item["case_id"]]} for item in items]
    return [dict(item) for item in items for _ in range(repeat)]


def select_cases(manifest: Manifest, split: str, fold: int | str | None) -> list[Case]:
    """Return the cases of a split, as described at `load_datalist`.

    Raises:
        InputError: there is no such fold or named split.
    """
    if split == "all":
        return list(manifest.cases)
    if split == "test":
        return [case for case in manifest.cases if case.split == "test"]
    if isinstance(fold, str) and fold.strip().isdigit():
        fold = int(fold)
    if isinstance(fold, str):
        named = manifest.named_splits.get(fold)
        if named is None:
            raise InputError(f"manifest {manifest.name!r} has no split named {fold!r}; {_describe_folds(manifest)}")
        val = set(named["val"])
        if split == "val":
            return [case for case in manifest.cases if case.case_id in val]
        return [case for case in manifest.cases if case.case_id not in val and case.split != "test"]
    folds = {case.fold for case in manifest.cases} - {None}
    if fold is not None and folds and fold not in folds:
        raise InputError(f"manifest {manifest.name!r} has no fold {fold!r}; {_describe_folds(manifest)}")
    return [case for case in manifest.cases if _split_of(case, fold) == split]


def _split_of(case: Case, fold: int | None) -> str:
    if case.split == "test" or case.fold is None or fold is None:
        return case.split
    return "val" if case.fold == fold else "train"


def _describe_folds(manifest: Manifest) -> str:
    folds = sorted({case.fold for case in manifest.cases if case.fold is not None})
    named = ", ".join(manifest.named_splits) or "none"
    return f"folds: {', '.join(map(str, folds)) or 'none'}; named splits: {named}"


def _require_dataset(manifest: Manifest, root: Path, cases: Sequence[Case]) -> None:
    from pipeline.datasets.integrity import explain_missing_dataset

    problem = explain_missing_dataset(manifest, root, cases)
    if problem:
        raise InputError("; ".join(part for part in (problem.message, problem.hint) if part))


def _require_intact(manifest: Manifest, root: Path, cases: Sequence[Case], source: str | os.PathLike[str]) -> None:
    from pipeline.datasets.cache import FileCache
    from pipeline.datasets.integrity import check_manifest
    from pipeline.datasets.options import CheckOptions

    # Near copies are warnings, which do not stop a run.
    options = CheckOptions(search_near=False)
    report = check_manifest(
        manifest, root, level="deep", cases=cases, options=options, cache=FileCache(root), trust_cache=True
    )
    errors = report.errors()
    if errors:
        command = f"python -m pipeline dataset check {os.fspath(source)} --dataset_dir {root} --deep"
        raise InputError(f"{summarise(errors)}; list all: {command}")


def _item(case: Case, root: Path) -> dict[str, Any]:
    item: dict[str, Any] = {"case_id": case.case_id, "subject": case.subject}
    item["image"] = [_locate(root, path) for path in case.image]
    if case.label is not None:
        item["label"] = [_locate(root, path) for path in case.label]
    return item


def _locate(root: Path, path: str) -> str:
    file, fragment = split_fragment(path)
    return f"{locate_file(root, file)}#{fragment}" if fragment else str(locate_file(root, file))


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
    for file in sorted(folder.iterdir(), key=lambda item: slice_key(item.stem)):
        name = file.name.lower()
        hidden = name.startswith(".") or not name.endswith(tuple(suffixes)) or not file.is_file()
        if not hidden and not any(fnmatch.fnmatch(name, pattern.lower()) for pattern in exclude):
            stacks.setdefault(split_number(file.stem)[0], []).append(file)
    only = folder.name if len(stacks) == 1 else ""
    return [
        (folder, only or prefix.rstrip("_- ") or folder.name, [str(file) for file in files])
        for prefix, files in stacks.items()
    ]
