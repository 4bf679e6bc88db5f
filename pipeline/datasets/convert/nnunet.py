"""nnU-Net v2 raw data (Isensee et al. 2021): ``imagesTr``, ``labelsTr``, ``dataset.json``, ``splits_final.json``."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.datasets.convert.conversion import Conversion, Item
from pipeline.datasets.convert.reading import Grid, Volume, is_plain, is_volume
from pipeline.datasets.convert.volumes import (
    VOLUME_ENDING,
    describe_losses,
    folder_of,
    id_of_ignored,
    make_folders,
    name_labels,
    place_volume,
    write_labels,
    write_volume,
)
from pipeline.datasets.convert.writing import place_file, write_picture
from pipeline.issues import InputError

_NAME = re.compile(r"Dataset\d{3}_[\w.-]+")


def write(conversion: Conversion) -> list[str]:
    """Write a dataset that nnU-Net v2 plans and trains.

    Every channel is a file of its own. Label ids become consecutive, pixels that belong to no class get nnU-Net's
    label ``ignore``. ``splits_final.json`` holds the folds, or the validation set as the only fold.

    Returns:
        What the user should know.

    Raises:
        InputError: the output is not called as nnU-Net asks, or volumes and pictures are mixed.
    """
    manifest, items = conversion.manifest, conversion.items
    if not _NAME.fullmatch(conversion.name):
        example = f"Dataset101_{re.sub(r'[^A-Za-z0-9]+', '_', manifest.name)}"
        raise InputError(f"nnU-Net wants a folder called DatasetXXX_NAME, got {conversion.name!r}; write -o {example}")
    ending = _choose_ending(conversion)
    names = name_labels(manifest, items)
    numbers = {label: number for number, label in enumerate(names)}
    ids = id_of_ignored(numbers, None if manifest.ignore_index is None else len(numbers))
    make_folders(conversion)
    counts = conversion.map_items(lambda item: _write_item(conversion, item, ending, ids))
    if len(set(counts)) > 1:
        few = items[counts.index(min(counts))].case.case_id
        raise InputError(f"the images have {min(counts)} ({few}) to {max(counts)} channels; nnU-Net wants one number")
    channels = manifest.channels if len(manifest.channels) == counts[0] else tuple(map(str, range(counts[0])))
    _write_json(conversion, "dataset.json", _describe(conversion, ending, channels, names, numbers))
    notes = describe_losses(manifest, items)
    moved = {names[label]: number for label, number in numbers.items() if label != number}
    if moved:
        notes.append("labels were numbered anew: " + ", ".join(f"{name} is {number}" for name, number in moved.items()))
    splits = _make_splits(items)
    if splits:
        _write_json(conversion, "splits_final.json", splits)
        notes.append(f"after planning, copy splits_final.json to $nnUNet_preprocessed/{conversion.name}/")
    return notes


def _choose_ending(conversion: Conversion) -> str:
    kinds = {is_volume(conversion.manifest, item.case) for item in conversion.items}
    if len(kinds) > 1:
        raise InputError("volumes and pictures in one dataset; nnU-Net wants one kind, --slices divides stacks")
    if kinds == {True}:
        return VOLUME_ENDING
    types = {item.case.facts.get("dtype") or "uint8" for item in conversion.items}
    return ".png" if types <= {"uint8", "uint16", "bool"} else ".tif"


def _write_item(conversion: Conversion, item: Item, ending: str, ids: dict[int, int]) -> int:
    """Write image and mask of a case; return its number of channels."""
    stem = f"{folder_of(item, 'images')}/{item.name}"
    channels = 1
    grid = _place_single(conversion, item, f"{stem}_0000{ending}")
    if grid is None:
        image = conversion.read_image(item)
        grid, channels = image.grid(), len(image.array)
        for number in range(channels):
            channel = replace(image, array=image.array[number : number + 1])
            _write_channel(conversion, channel, f"{stem}_{number:04d}{ending}")
    if item.case.label is not None:
        write_labels(conversion, item, f"{folder_of(item, 'labels')}/{item.name}{ending}", ids, grid)
    return channels


def _write_channel(conversion: Conversion, channel: Volume, relative: str) -> None:
    if channel.affine is not None:
        write_volume(conversion, channel, relative)
    else:
        write_picture(channel.array[0], conversion.out / relative)


def _place_single(conversion: Conversion, item: Item, relative: str) -> Grid | None:
    """Put an image with one channel to its place unchanged; return None if it has to be written anew."""
    if relative.endswith(VOLUME_ENDING):
        return place_volume(conversion, item, relative, channels=False)
    source = conversion.root / item.case.image[0]
    same_format = source.name.lower().endswith(relative[relative.rindex(".") :])
    if len(item.case.image) != 1 or not same_format or not is_plain(source):
        return None
    from PIL import Image

    with Image.open(source) as picture:
        if len(picture.getbands()) != 1:
            return None
        grid = Grid((picture.height, picture.width))
    place_file(source, conversion.out / relative, conversion.link)
    return grid


def _describe(
    conversion: Conversion, ending: str, channels: tuple[str, ...], names: dict[int, str], numbers: dict[int, int]
) -> dict[str, Any]:
    manifest = conversion.manifest
    labels = {names[label]: number for label, number in numbers.items()}
    if manifest.ignore_index is not None:
        labels["ignore"] = len(labels)
    reader = {} if ending == VOLUME_ENDING else {"overwrite_image_reader_writer": "NaturalImage2DIO"}
    return {
        "channel_names": {str(number): channel for number, channel in enumerate(channels)},
        "labels": labels,
        "numTraining": sum(folder_of(item, "images") == "imagesTr" for item in conversion.items),
        "file_ending": ending,
        **reader,
        "name": manifest.name,
        "description": manifest.task,
        "reference": "; ".join([manifest.source, *manifest.citations]),
        "licence": manifest.licence,
    }


def _make_splits(items: tuple[Item, ...]) -> list[dict[str, list[str]]]:
    """Return the folds as nnU-Net keeps them, [] if there are none."""
    training = [item for item in items if folder_of(item, "images") == "imagesTr"]
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


def _write_json(conversion: Conversion, name: str, content: Any) -> None:
    with write_atomically(conversion.out / name) as stream:
        json.dump(content, stream, indent=1, ensure_ascii=False)
        stream.write("\n")
