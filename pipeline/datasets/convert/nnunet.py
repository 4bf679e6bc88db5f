"""nnU-Net v2 raw data (Isensee et al. 2021): ``imagesTr``, ``labelsTr``, ``dataset.json``, ``splits_final.json``."""

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from pipeline.datasets.convert import volumes
from pipeline.datasets.convert.conversion import Conversion, Item
from pipeline.datasets.convert.raster import place_picture
from pipeline.datasets.convert.reading import Grid, is_volume
from pipeline.datasets.convert.writing import write_picture
from pipeline.issues import InputError

_NAME = re.compile(r"Dataset\d{3}_[\w.-]+")


def write(conversion: Conversion) -> list[str]:
    """Write a dataset that nnU-Net v2 plans and trains.

    Every channel is a separate file. Label ids become consecutive, and ignored pixels get nnU-Net's label ``ignore``.
    ``splits_final.json`` holds the folds, or the validation set as the only fold.

    Returns:
        Notes for the user.

    Raises:
        InputError: the output's name is not one that nnU-Net accepts, or volumes and pictures are mixed.
    """
    manifest, items = conversion.manifest, conversion.items
    if not _NAME.fullmatch(conversion.name):
        example = f"Dataset101_{re.sub(r'[^A-Za-z0-9]+', '_', manifest.name)}"
        raise InputError(f"nnU-Net needs a folder named DatasetXXX_NAME, got {conversion.name!r}; pass -o {example}")
    ending = _choose_ending(conversion)
    names = volumes.name_labels(manifest, items)
    numbers = {label: number for number, label in enumerate(names)}
    ids = volumes.id_of_ignored(numbers, None if manifest.ignore_index is None else len(numbers))
    volumes.make_folders(conversion)
    counts = conversion.map_items(lambda item: _write_item(conversion, item, ending, ids))
    channels = _name_channels(conversion, counts)
    conversion.write_json("dataset.json", _describe(conversion, ending, channels, names, numbers))
    notes = volumes.describe_losses(manifest, items)
    moved = [f"{names[label]} is {number}" for label, number in numbers.items() if label != number]
    if moved:
        notes.append(f"labels were renumbered: {', '.join(moved)}")
    splits = _make_splits(items)
    if splits:
        conversion.write_json("splits_final.json", splits)
        notes.append(f"after planning, copy splits_final.json to $nnUNet_preprocessed/{conversion.name}/")
    return notes


def _name_channels(conversion: Conversion, counts: list[int]) -> tuple[str, ...]:
    fewest, channels = min(counts), conversion.manifest.channels
    if fewest < max(counts):
        few = conversion.items[counts.index(fewest)].case.case_id
        raise InputError(f"the images have {fewest} ({few}) to {max(counts)} channels; nnU-Net needs one number")
    return channels if len(channels) == fewest else tuple(map(str, range(fewest)))


def _choose_ending(conversion: Conversion) -> str:
    kinds = {is_volume(conversion.manifest, item.case) for item in conversion.items}
    if len(kinds) > 1:
        raise InputError("volumes and pictures in one dataset; nnU-Net needs one kind, --slices divides stacks")
    if kinds == {True}:
        return volumes.VOLUME_ENDING
    types = {item.case.facts.get("dtype") or "uint8" for item in conversion.items}
    return ".png" if types <= {"uint8", "uint16", "bool"} else ".tif"


def _write_item(conversion: Conversion, item: Item, ending: str, ids: dict[int, int]) -> int:
    """Write image and mask of a case; return its number of channels."""
    stem = f"{volumes.folder_of(item, 'images')}/{item.name}"
    channels = 1
    grid = _place_single(conversion, item, f"{stem}_0000{ending}")
    if grid is None:
        image = conversion.read_image(item)
        grid, channels = image.grid(), len(image.array)
        for number in range(channels):
            relative = f"{stem}_{number:04d}{ending}"
            if image.affine is not None:
                volumes.write_volume(conversion, replace(image, array=image.array[number : number + 1]), relative)
            else:
                write_picture(image.array[number], conversion.out / relative)
    if item.case.label is not None:
        volumes.write_labels(conversion, item, f"{volumes.folder_of(item, 'labels')}/{item.name}{ending}", ids, grid)
    return channels


def _place_single(conversion: Conversion, item: Item, relative: str) -> Grid | None:
    """Copy or link an image with one channel unchanged; return None if it has to be converted."""
    if relative.endswith(volumes.VOLUME_ENDING):
        return volumes.place_volume(conversion, item, relative, channels=False)
    if not item.case.image[0].lower().endswith(PurePosixPath(relative).suffix):
        return None
    return place_picture(conversion, item, relative, channels=False)


def _describe(
    conversion: Conversion, ending: str, channels: tuple[str, ...], names: dict[int, str], numbers: dict[int, int]
) -> dict[str, Any]:
    manifest = conversion.manifest
    labels = {names[label]: number for label, number in numbers.items()}
    if manifest.ignore_index is not None:
        labels["ignore"] = len(labels)
    reader = {} if ending == volumes.VOLUME_ENDING else {"overwrite_image_reader_writer": "NaturalImage2DIO"}
    return {
        "channel_names": {str(number): channel for number, channel in enumerate(channels)},
        "labels": labels,
        "numTraining": sum(volumes.folder_of(item, "images") == "imagesTr" for item in conversion.items),
        "file_ending": ending,
        **reader,
        "name": manifest.name,
        "description": manifest.task,
        "reference": "; ".join([manifest.source, *manifest.citations]),
        "licence": manifest.licence,
    }


def _make_splits(items: tuple[Item, ...]) -> list[dict[str, list[str]]]:
    """Return the folds in nnU-Net's form, [] without folds."""
    training = [item for item in items if volumes.folder_of(item, "images") == "imagesTr"]
    folds = sorted({item.fold for item in training if item.fold is not None})
    if folds:
        held_out = [{item.name for item in training if item.fold == fold} for fold in folds]
    else:
        held_out = [{item.name for item in training if item.part == "val"}]
    names = sorted(item.name for item in training)
    return [
        {"train": [name for name in names if name not in val], "val": sorted(val)}
        for val in held_out
        if 0 < len(val) < len(names)
    ]
