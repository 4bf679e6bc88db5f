"""`load_datalist`, the one function that training configs call."""

import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.datasets.files import locate_file
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.flags import read_flag
from pipeline.issues import InputError, summarise

_LOGGER = logging.getLogger(__name__)
SELECTIONS = ("train", "val", "test", "all")


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
        fold: number of the validation fold, or the name of a named split, whose cases are then ``"val"`` and whose
            excluded cases are in neither part; None uses the manifest's own splits and no folds.
        repeat: how often each case is listed, for datasets where one sample is a slice of a case.
        check: check presence, sha256 and pixels of every file, so that all problems are found before training starts
            (the checksum of a file that was always damaged matches). Files that have not changed since they were last
            read are not read again, see `pipeline.datasets.checks.cache`.
        allow_missing: leave out cases none of whose files exist, instead of an error.

    Returns:
        Items ``{"case_id", "subject", "image": [absolute paths], "label": [absolute paths]}``; no label without mask.
        The image of a DICOM series is its folder, which `LoadImaged` with `ITKReader` reads as one volume.

    Raises:
        InputError: one line: the first problem, the number of others, and the command that lists them all.
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
        from pipeline.datasets.checks.integrity import is_present

        cases = [case for case in cases if is_present(case, root)]
    if read_flag(check, "check"):
        _require_intact(data, root, cases, manifest)
    items = _make_items(data, root, cases, manifest)
    _LOGGER.info("split %s: %d cases", split, len(items))
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
    if isinstance(fold, str) and not fold.strip().isdigit():
        return _select_named(manifest, split, fold)
    number = int(fold) if isinstance(fold, str) else fold
    folds = {case.fold for case in manifest.cases} - {None}
    if number is not None and folds and number not in folds:
        raise InputError(f"manifest {manifest.name!r} has no fold {number!r}; {_describe_folds(manifest)}")
    return [case for case in manifest.cases if _split_of(case, number) == split]


def _select_named(manifest: Manifest, split: str, name: str) -> list[Case]:
    named = manifest.named_splits.get(name)
    if named is None:
        raise InputError(f"manifest {manifest.name!r} has no split named {name!r}; {_describe_folds(manifest)}")
    val = set(named["val"])
    if split == "val":
        return [case for case in manifest.cases if case.case_id in val]
    unused = val | set(named.get("exclude", ()))
    return [case for case in manifest.cases if case.case_id not in unused and case.split != "test"]


def _split_of(case: Case, fold: int | None) -> str:
    if case.split == "test" or case.fold is None or fold is None:
        return case.split
    return "val" if case.fold == fold else "train"


def _describe_folds(manifest: Manifest) -> str:
    folds = sorted({case.fold for case in manifest.cases if case.fold is not None})
    named = ", ".join(manifest.named_splits) or "none"
    return f"folds: {', '.join(map(str, folds)) or 'none'}; named splits: {named}"


def _require_dataset(manifest: Manifest, root: Path, cases: Sequence[Case]) -> None:
    from pipeline.datasets.checks.integrity import require_dataset

    require_dataset(manifest, root, cases)


def _require_intact(manifest: Manifest, root: Path, cases: Sequence[Case], source: str | os.PathLike[str]) -> None:
    from pipeline.datasets.checks.cache import FileCache
    from pipeline.datasets.checks.integrity import check_manifest
    from pipeline.datasets.checks.options import CheckOptions

    # Near copies are warnings, which do not stop a run.
    options = CheckOptions(search_near=False)
    report = check_manifest(
        manifest, root, level="deep", cases=cases, options=options, cache=FileCache(root), trust_cache=True
    )
    errors = report.errors()
    if errors:
        place = f"{shlex.quote(os.fspath(source))} --dataset_dir {shlex.quote(str(root))}"
        command = f"python -m pipeline dataset check {place} --deep"
        raise InputError(f"{summarise(errors)}; list all: {command}")


def _make_items(
    manifest: Manifest, root: Path, cases: Sequence[Case], source: str | os.PathLike[str]
) -> list[dict[str, Any]]:
    from pipeline.datasets.probes.dicom_series import require_folders

    folders = require_folders(cases, root, source) if manifest.stacking == "series" else {}
    items = []
    for case in cases:
        item: dict[str, Any] = {"case_id": case.case_id, "subject": case.subject}
        # MONAI's ITKReader would make channels of a list of slices, but reads a folder as one volume.
        item["image"] = folders.get(case.case_id) or [_locate(root, path) for path in case.image]
        if case.label is not None:
            item["label"] = [_locate(root, path) for path in case.label]
        items.append(item)
    return items


def _locate(root: Path, path: str) -> str:
    file, fragment = split_fragment(path)
    return f"{locate_file(root, file)}#{fragment}" if fragment else str(locate_file(root, file))
