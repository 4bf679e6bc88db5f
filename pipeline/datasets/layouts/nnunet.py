"""nnU-Net raw data, versions 1 and 2: ``imagesTr/CASE_0000.nii.gz``, one file per channel, ``labelsTr/CASE.nii.gz``."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.datasets.layouts import volumes
from pipeline.datasets.layouts.listing import Listing, ManifestDraft
from pipeline.datasets.layouts.naming import note_others, start_manifest
from pipeline.datasets.manifests.manifest import Case, Manifest, Split
from pipeline.datasets.probes import VOLUMES, expected_format
from pipeline.issues import InputError

SPLITS = "splits_final.json"
IGNORE = "ignore"
_NUMBER = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def read(listing: Listing, labels: str | None = None) -> ManifestDraft:
    """Read a raw dataset of nnU-Net.

    Images of ``imagesTs`` are test cases. ``splits_final.json`` (of nnU-Net's preprocessed folder) gives the folds if
    it was copied next to ``dataset.json``. A label called ``ignore`` becomes the manifest's ``ignore_index``, whatever
    its number. Subjects stay unknown, because nnU-Net has none.

    Args:
        listing: the folder ``DatasetXXX_Name``, or the one above.
        labels: names, ``0=background,1=...``; None takes those of ``dataset.json``.

    Returns:
        The draft; the image of a case has one file per channel.

    Raises:
        InputError: no ``dataset.json``, a case without one of its channels or its label, or regions as labels.
    """
    prefix = volumes.find_root(listing, "imagesTr")
    where = str(listing.root / f"{prefix}dataset.json")
    description = volumes.read_description(listing, prefix)
    if description is None:
        raise InputError(f"no {where}; expected nnU-Net's, with channel_names, labels and file_ending")
    if "dataset" in description:
        raise InputError(f"{where}: 'dataset' lists files elsewhere; convert it to imagesTr/ and labelsTr/ first")
    manifest = _describe(description, where, prefix.rstrip("/") or listing.root.resolve().name, labels)
    cases = _Reader(listing, prefix, _read_ending(description), len(manifest.channels)).read_all()
    if any(len(case.image) > 1 for case in cases):
        manifest = replace(manifest, stacking="channels")
    if f"{prefix}{SPLITS}" in listing.files:
        cases = _apply_folds(cases, listing.root / f"{prefix}{SPLITS}")
    notes = note_others(listing, cases, {SPLITS, "dataset.json"})
    return ManifestDraft(replace(manifest, cases=tuple(cases)), notes)


def _read_ending(description: Mapping[str, Any]) -> str:
    return str(description.get("file_ending") or ".nii.gz")


def _describe(description: Mapping[str, Any], where: str, name: str, labels: str | None) -> Manifest:
    given = description.get("labels")
    table = volumes.parse_labels(labels) if labels is not None else volumes.read_label_table(given, where)
    ignored = [number for number, label in table.items() if label == IGNORE]
    kept = {number: label for number, label in table.items() if number not in ignored}
    return start_manifest(
        "nnunet",
        **volumes.read_terms(description, name),
        **volumes.number_labels(kept, where),
        channels=volumes.name_channels(description, where),
        spacing_policy="header" if expected_format(_read_ending(description)) in VOLUMES else "none",
        ignore_index=ignored[0] if ignored else None,
    )


class _Reader:
    """Pairs images and labels of one dataset by their names."""

    def __init__(self, listing: Listing, prefix: str, ending: str, channels: int) -> None:
        self.listing, self.prefix, self.ending, self.channels = listing, prefix, ending, channels

    def read_all(self) -> list[Case]:
        """Return the training cases and the test cases; test cases of the same name get another id."""
        train, test = self._read_part("Tr", "train"), self._read_part("Ts", "test")
        if not train and not test:
            where = f"{self.listing.root / self.prefix}imagesTr"
            raise InputError(f"no CASE_0000{self.ending} in {where}; expected nnU-Net's names")
        taken = {case.case_id for case in train}
        return train + [
            replace(case, case_id=f"imagesTs_{case.case_id}") if case.case_id in taken else case for case in test
        ]

    def _read_part(self, part: str, split: Split) -> list[Case]:
        """Return the cases of ``imagesTr`` or ``imagesTs``."""
        images: dict[str, dict[int, str]] = {}
        for stem, path in self._list(f"images{part}").items():
            match = _NUMBER.match(stem)
            if match:
                images.setdefault(match["case"], {})[int(match["channel"])] = path
        masks = self._list(f"labels{part}")
        self._require_partners(part, images, masks)
        return [
            Case(name, "", self._order(name, images[name]), (masks[name],) if name in masks else None, split)
            for name in sorted(images)
        ]

    def _list(self, folder: str) -> dict[str, str]:
        start = f"{self.prefix}{folder}/"
        paths = volumes.list_folder(self.listing, start)
        return {path[len(start) : -len(self.ending)]: path for path in paths if path.endswith(self.ending)}

    def _require_partners(self, part: str, images: Mapping[str, dict[int, str]], masks: Mapping[str, str]) -> None:
        for name in sorted(set(masks) - set(images)):
            expected = f"{self.prefix}images{part}/{name}_0000{self.ending}"
            raise InputError(f"{self.listing.root / masks[name]} has no image, expected {expected}")
        for name in sorted(set(images) - set(masks)) if part == "Tr" and masks else ():
            expected = f"{self.prefix}labels{part}/{name}{self.ending}"
            raise InputError(f"{self.listing.root / images[name][min(images[name])]} has no label {expected}")

    def _order(self, name: str, files: dict[int, str]) -> tuple[str, ...]:
        # Colour images have their three channels in one file, which is numbered 0000.
        coloured = sorted(files) == [0] and expected_format(self.ending) not in VOLUMES
        wanted = [0] if coloured else list(range(self.channels))
        if sorted(files) != wanted:
            found, expected = (", ".join(f"{n:04d}" for n in numbers) for numbers in (sorted(files), wanted))
            message = f"case {name} has the channels {found}, expected {expected} according to dataset.json"
            raise InputError(f"{self.listing.root / self.prefix}: {message}")
        return tuple(files[number] for number in sorted(files))


def _apply_folds(cases: list[Case], path: Path) -> list[Case]:
    """Return the cases with the fold in whose validation part they are."""
    folds = volumes.read_json(path)
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
        raise InputError(f"{path}: {unknown[0]!r} is not a case of imagesTr ({len(unknown)} such names)")
    return [replace(case, fold=fold_of.get(case.case_id)) if case.split != "test" else case for case in cases]
