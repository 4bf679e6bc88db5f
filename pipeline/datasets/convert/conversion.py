"""Convert a dataset completely or not at all: select cases, check them, write to a folder that is renamed last."""

import contextlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast

from numpy.typing import NDArray

from pipeline.atomic import write_atomically
from pipeline.datasets.checks.integrity import check_manifest, is_present, require_dataset
from pipeline.datasets.convert import TARGETS, Link
from pipeline.datasets.convert.reading import Volume, read_image, read_labels
from pipeline.datasets.convert.verification import verify_result
from pipeline.datasets.datalist import select_cases
from pipeline.datasets.digests import map_threads
from pipeline.datasets.files import locate_file
from pipeline.datasets.manifests.manifest import Case, Manifest, Split
from pipeline.datasets.probes import VOLUMES, expected_format
from pipeline.issues import InputError, summarise

R = TypeVar("R")
Progress = Callable[[Iterable[Any], int], Iterable[Any]]
_MEGABYTE = 1 << 20
_ITEM_BYTES = {"uint8": 1, "bool": 1, "int8": 1, "uint16": 2, "int16": 2, "float64": 8, "int64": 8, "uint64": 8}


@dataclass(frozen=True)
class Item:
    """A case with its name and part in the converted dataset."""

    case: Case  #: the case
    name: str  #: its new name, unique and safe as a file name
    part: Split  #: its new split
    fold: int | None  #: its fold, None without folds or if one fold was chosen


@dataclass(frozen=True)
class Conversion:
    """The arguments of a target's writer."""

    manifest: Manifest  #: the dataset
    root: Path  #: the dataset's folder; nothing is written into it
    out: Path  #: empty folder to write to
    name: str  #: the final name of that folder
    items: tuple[Item, ...]  #: the cases in the manifest's order
    link: Link = "copy"  #: how unchanged files are placed
    progress: Progress | None = None  #: wraps an iterable of results, given their number
    jobs: int | None = None  #: number of threads; None takes one a core

    def map_items(self, function: Callable[[Item], R]) -> list[R]:
        """Return ``function(item)`` of all items in their order, computed by threads, with a progress bar."""
        # Closed on every error, because no thread may write after the folder is removed.
        results = cast("Generator[R, None, None]", map_threads(function, self.items, self.jobs))
        with contextlib.closing(results) as stream:
            return list(self.progress(stream, len(self.items)) if self.progress else stream)

    def read_image(self, item: Item) -> Volume:
        """Return the image ``(C, *spatial)``; see `read_image`."""
        return read_image(self.manifest, item.case, self.root)

    def read_labels(self, item: Item) -> tuple[Volume, NDArray[Any] | None]:
        """Return the mask, and its stored values if it is one file; see `read_labels`."""
        return read_labels(self.manifest, item.case, self.root)

    def write_json(self, relative: str, content: Any, indent: int | None = 1) -> None:
        """Write a JSON file of the converted dataset."""
        with write_atomically(self.out / relative) as stream:
            json.dump(content, stream, indent=indent, ensure_ascii=False)
            stream.write("\n")


def convert_manifest(
    manifest: Manifest,
    root: Path,
    target: str,
    output: Path,
    *,
    split: str | None = None,
    fold: int | str | None = None,
    link: Link = "copy",
    slices: bool = False,
    check: bool = True,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Write a dataset in another layout.

    Args:
        manifest: the dataset.
        root: its folder.
        target: a key of `TARGETS`.
        output: folder to make; it must not exist, and not lie in ``root``.
        split: convert only these cases; None takes all, without test cases that are not on the disk.
        fold: the fold or named split that becomes the validation set; None keeps the manifest's splits and all folds.
        link: how unchanged files are placed.
        slices: make each slice of a stack of pictures a separate case.
        check: compare the files with the manifest first, at the default level, and read the result back at the end.
        jobs: number of threads.
        progress: wraps an iterable of results, given their number.

    Returns:
        Notes for the user: cases left out, facts that the format cannot express, the next step.

    Raises:
        InputError: the output exists or does not fit on the disk, a file is missing or wrong, or the target does not
            support such data. No file is left.
    """
    _require_free_name(output, root)
    here, notes = _select(manifest, root, split, fold)
    sources = [case for case, _ in here]
    if check:
        report = check_manifest(manifest, root, level="default", cases=sources, jobs=jobs, progress=progress)
        if report.errors():
            hint = "pipeline dataset check lists all; --no-check converts what can be read"
            raise InputError(f"{summarise(report.errors())}; {hint}")
    if slices or target == "coco":
        here = [(piece, part) for case, part in here for piece in divide_stack(manifest, case)]
    items = _name_items(here, keep_folds=fold is None)
    _require_space(manifest, items, root, output, link)
    with _make_folder(output) as folder:
        conversion = Conversion(manifest, root, folder, output.name, items, link, progress, jobs)
        notes += importlib.import_module(TARGETS[target].module).write(conversion)
        if check:
            pieces = sum(item.case.label is not None for item in items)
            verify_result(target, folder, manifest, sources, pieces)
    return notes


def _select(
    manifest: Manifest, root: Path, split: str | None, fold: int | str | None
) -> tuple[list[tuple[Case, Split]], list[str]]:
    """Return the cases to convert, each with its part, and a note if absent test cases were left out."""
    chosen = list(_choose(manifest, split, fold))
    require_dataset(manifest, root, [case for case, _ in chosen])
    here = [(case, part) for case, part in chosen if split or case.split != "test" or is_present(case, root)]
    lost = len(chosen) - len(here)
    return here, [f"test cases that are not in {root} and were left out: {lost}"] if lost else []


def _choose(manifest: Manifest, split: str | None, fold: int | str | None) -> Iterator[tuple[Case, Split]]:
    """Yield each case with its part."""
    if fold is None:
        own = manifest.cases if split is None else select_cases(manifest, split, None)
        yield from ((case, case.split) for case in own)
        return
    part_of: dict[str, Split] = {}
    # A named split may validate on test cases; then they are not test cases.
    parts: tuple[Split, ...] = ("test", "train", "val")
    for part in parts:
        part_of |= {case.case_id: part for case in select_cases(manifest, part, fold)}
    for case in manifest.cases:
        its_part = part_of.get(case.case_id)  # none for the cases that a named split excludes
        if its_part and split in (None, "all", its_part):
            yield case, its_part


def _require_free_name(output: Path, root: Path) -> None:
    if os.path.lexists(output):
        raise InputError(f"{output} exists already; remove it or choose another name")
    if output.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{output} lies in the dataset's folder {root}, which is not changed; choose another one")


def divide_stack(manifest: Manifest, case: Case) -> Iterator[Case]:
    """Yield each slice of a stack of pictures as a separate case, named like its file; yield other cases unchanged."""
    if manifest.stacking != "slices" or len(case.image) == 1 or expected_format(case.image[0]) in (*VOLUMES, "DICOM"):
        yield case
        return
    shape = case.facts.get("shape")
    facts = {"dtype": case.facts.get("dtype"), "shape": shape[:2] if shape else None}
    for index, path in enumerate(case.image):
        label = (case.label[index],) if case.label else None
        yield replace(case, case_id=PurePosixPath(path).stem, image=(path,), label=label, facts=facts)


def _name_items(cases: Iterable[tuple[Case, Split]], *, keep_folds: bool) -> tuple[Item, ...]:
    items = []
    taken: set[str] = set()
    for case, part in cases:
        name = base = re.sub(r"[^\w.-]+", "_", case.case_id).strip("._") or "case"
        number = 1
        # Some disks ignore case.
        while name.casefold() in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name.casefold())
        items.append(Item(case, name, part, case.fold if keep_folds and part != "test" else None))
    if not items:
        raise InputError("no case is selected; look at --split and --fold")
    return tuple(items)


def _require_space(manifest: Manifest, items: Sequence[Item], root: Path, output: Path, link: Link) -> None:
    """Refuse before anything is written; the estimate ignores compression, so it is an upper bound."""
    needed = sum(_estimate_bytes(manifest, item.case, root, link) for item in items)
    folder = next(parent for parent in output.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"output-space: the converted dataset may need {needed // _MEGABYTE} MB, {folder} has"
            f" {free // _MEGABYTE} MB free; choose another disk, or --link symlink for files that stay as they are"
        )


def _estimate_bytes(manifest: Manifest, case: Case, root: Path, link: Link) -> int:
    voxels = prod(case.facts.get("shape") or ())
    stored = 0
    for path in case.image:
        with contextlib.suppress(OSError):
            stored += os.stat(locate_file(root, path)).st_size
    if link != "copy" and len(case.image) == 1:
        return voxels
    decoded = voxels * max(1, len(manifest.channels)) * _ITEM_BYTES.get(str(case.facts.get("dtype")), 4)
    return max(stored, decoded) + voxels


@contextlib.contextmanager
def _make_folder(output: Path) -> Iterator[Path]:
    """Make a hidden folder next to the output; it gets the final name at the end, and is removed on every error."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {temporary}: {(error.strerror or str(error)).lower()}") from None
    try:
        yield temporary
        os.rename(temporary, output)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(f"cannot write {output}: {(error.strerror or str(error)).lower()}") from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
