"""nnU-Net raw data, versions 1 and 2: ``imagesTr/CASE_0000.nii.gz``, a file a channel, ``labelsTr/CASE.nii.gz``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from pipeline.datasets.layouts.listing import Draft, Listing, note_names
from pipeline.datasets.layouts.volumes import (
    IGNORE,
    find_root,
    name_channels,
    parse_labels,
    read_description,
    read_json,
    read_labels,
)
from pipeline.datasets.manifests.manifest import Case, Manifest, Split
from pipeline.issues import InputError

SPLITS = "splits_final.json"
_NUMBER = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def read(listing: Listing, labels: str | None = None) -> Draft:
    """Read a raw dataset of nnU-Net.

    Images of ``imagesTs`` are test cases. ``splits_final.json`` (of nnU-Net's preprocessed folder) gives the folds if
    it was copied beside ``dataset.json``. A label called ``ignore`` becomes the manifest's ``ignore_index``. nnU-Net
    does not know subjects, so they stay unknown.

    Args:
        listing: the folder ``DatasetXXX_Name``, or the one above.
        labels: names, ``0=background,1=...``; None takes those of ``dataset.json``.

    Returns:
        The draft; cases with several channels have a file each.

    Raises:
        InputError: no ``dataset.json``, a case without one of its channels or its label, or regions as labels.
    """
    prefix = find_root(listing, "imagesTr")
    where = str(listing.root / f"{prefix}dataset.json")
    description = read_description(listing, prefix)
    if description is None:
        raise InputError(f"no {where}; expected nnU-Net's, with channel_names, labels and file_ending")
    if "dataset" in description:
        raise InputError(f"{where}: 'dataset' lists files elsewhere; convert it to imagesTr/ and labelsTr/ first")
    manifest = _describe(description, where, prefix.rstrip("/") or listing.root.resolve().name, labels)
    ending = str(description.get("file_ending") or ".nii.gz")
    reader = _Reader(listing, prefix, ending, len(manifest.channels))
    cases = reader.read_cases("Tr", "train", label_required=True)
    taken = {case.case_id for case in cases}
    for case in reader.read_cases("Ts", "test", label_required=False):
        cases.append(replace(case, case_id=f"imagesTs_{case.case_id}" if case.case_id in taken else case.case_id))
    if not cases:
        raise InputError(f"no CASE_0000{ending} in {listing.root / prefix}imagesTr; expected nnU-Net's names")
    if any(len(case.image) > 1 for case in cases):
        manifest = replace(manifest, stacking="channels")
    if f"{prefix}{SPLITS}" in listing.files:
        cases = _apply_folds(cases, listing.root / f"{prefix}{SPLITS}")
    used = {path for case in cases for path in case.files()}
    others = [
        name for name in listing.files if name not in used and PurePosixPath(name).name not in (SPLITS, "dataset.json")
    ]
    return Draft(replace(manifest, cases=tuple(cases)), note_names("unmatched-file", "belong to no case", others))


def _describe(description: Mapping[str, Any], where: str, name: str, labels: str | None) -> Manifest:
    table = parse_labels(labels) if labels is not None else read_labels(description.get("labels"), where)
    ignored = [number for number, label in table.items() if label == IGNORE]
    kept = {number: label for number, label in table.items() if number not in ignored}
    return Manifest(
        name=str(description.get("name") or name),
        layout="nnunet",
        task="segmentation",
        licence=str(description.get("licence") or description.get("license") or ""),
        source=str(description.get("reference") or ""),
        labels=kept,
        mask_values={number: number for number in kept},
        channels=name_channels(description.get("channel_names") or description.get("modality"), where),
        cases=(),
        spacing_policy="header" if ".nii" in str(description.get("file_ending") or ".nii.gz") else "none",
        ignore_index=ignored[0] if ignored else None,
    )


class _Reader:
    """Names of images and labels of one dataset."""

    def __init__(self, listing: Listing, prefix: str, ending: str, channels: int) -> None:
        self.listing, self.prefix, self.ending, self.channels = listing, prefix, ending, channels

    def read_cases(self, part: str, split: Split, *, label_required: bool) -> list[Case]:
        """Return the cases of ``imagesTr`` or ``imagesTs``.

        Raises:
            InputError: a channel or a label is missing.
        """
        images: dict[str, dict[int, str]] = {}
        for stem, path in self._files(f"images{part}"):
            match = _NUMBER.match(stem)
            if match:
                images.setdefault(match["case"], {})[int(match["channel"])] = path
        masks = dict(self._files(f"labels{part}"))
        orphans = sorted(set(masks) - set(images))
        if orphans:
            expected = f"{self.prefix}images{part}/{orphans[0]}_0000{self.ending}"
            raise InputError(f"{self.listing.root / masks[orphans[0]]} has no image, expected {expected}")
        cases = []
        for name in sorted(images):
            if label_required and masks and name not in masks:
                expected = f"{self.prefix}labels{part}/{name}{self.ending}"
                raise InputError(f"{self.listing.root / images[name][min(images[name])]} has no label {expected}")
            label = (masks[name],) if name in masks else None
            cases.append(Case(name, "", self._order(name, images[name]), label, split))
        return cases

    def _files(self, folder: str) -> list[tuple[str, str]]:
        start = f"{self.prefix}{folder}/"
        paths = [path for path in self.listing.known() if path.startswith(start) and path.endswith(self.ending)]
        return [(path[len(start) : -len(self.ending)], path) for path in paths if "/" not in path[len(start) :]]

    def _order(self, name: str, files: dict[int, str]) -> tuple[str, ...]:
        # Colour pictures have their three channels in one file, which is numbered 0000.
        wanted = [0] if sorted(files) == [0] and not self.ending.startswith(".nii") else list(range(self.channels))
        if sorted(files) != wanted:
            found = ", ".join(f"{number:04d}" for number in sorted(files))
            raise InputError(
                f"{self.listing.root / self.prefix}: case {name} has the channels {found}, expected"
                f" {', '.join(f'{number:04d}' for number in wanted)} as dataset.json names"
            )
        return tuple(files[number] for number in sorted(files))


def _apply_folds(cases: list[Case], path: Any) -> list[Case]:
    """Return the cases with the fold in whose validation part they are."""
    folds = read_json(path)
    if not isinstance(folds, list) or not all(isinstance(fold, Mapping) and "val" in fold for fold in folds):
        raise InputError(f"{path}: expected a list of {{'train': [...], 'val': [...]}}")
    fold_of: dict[str, int] = {}
    for number, fold in enumerate(folds):
        for name in fold["val"]:
            if name in fold_of:
                raise InputError(f"{path}: {name!r} is validation in the folds {fold_of[name]} and {number}")
            fold_of[name] = number
    unknown = sorted(set(fold_of) - {case.case_id for case in cases if case.split != "test"})
    if unknown:
        raise InputError(f"{path}: {unknown[0]!r} is no case of imagesTr ({len(unknown)} such names)")
    return [replace(case, fold=fold_of.get(case.case_id)) if case.split != "test" else case for case in cases]
