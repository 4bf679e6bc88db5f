"""Images and masks of the two layouts with the folders ``imagesTr``, ``labelsTr``, ``imagesTs``, ``labelsTs``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.convert.conversion import Conversion, Item
from pipeline.datasets.convert.reading import IGNORED, Grid, Volume, is_volume, read_grid
from pipeline.datasets.convert.writing import compress_file, fit_labels, place_file, write_nifti, write_picture
from pipeline.datasets.files import locate_file
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.probes import find_ending
from pipeline.issues import InputError

VOLUME_ENDING = ".nii.gz"


def folder_of(item: Item, kind: str) -> str:
    """Return the folder of an item's file, ``kind`` being ``"images"`` or ``"labels"``.

    Cases without mask cannot be used for training, so they are stored with the test cases.
    """
    training = item.part != "test" and item.case.label is not None
    return f"{kind}{'Tr' if training else 'Ts'}"


def make_folders(conversion: Conversion) -> None:
    """Make ``imagesTr`` and ``labelsTr``, and the other folders if they are needed."""
    needed = {"imagesTr", "labelsTr"}
    for item in conversion.items:
        needed |= {folder_of(item, "images")} | ({folder_of(item, "labels")} if item.case.label else set())
    for name in sorted(needed):
        (conversion.out / name).mkdir()


def place_volume(conversion: Conversion, item: Item, relative: str, *, channels: bool = True) -> Grid | None:
    """Copy, link or compress an image that is one NIfTI file, with several channels only if ``channels`` allows it.

    Returns:
        Its grid; None if it is not such a file and was not placed.
    """
    ending = find_ending(item.case.image[0])
    if len(item.case.image) != 1 or ending not in (".nii", ".nii.gz"):
        return None
    source, target = locate_file(conversion.root, item.case.image[0]), conversion.out / relative
    grid, axes = read_grid(source)
    if axes > 3 and not channels:
        return None
    if ending == ".nii":
        compress_file(source, target)
    else:
        place_file(source, target, conversion.link)
    return grid


def write_volume(conversion: Conversion, volume: Volume, relative: str) -> None:
    """Write channels ``(C, *spatial)`` as one NIfTI file, 3-D or with the channels last."""
    array = volume.array[0] if len(volume.array) == 1 else np.moveaxis(volume.array, 0, -1)
    write_nifti(replace(volume, array=array), conversion.out / relative, known_spacing=volume.is_placed())


def write_labels(conversion: Conversion, item: Item, relative: str, ids: Mapping[int, int], grid: Grid) -> None:
    """Write a mask with the target's label ids, on the image's grid if it has none, or place a file that has them.

    Raises:
        InputError: the mask cannot be read, or its shape is not the image's.
    """
    volume, stored = conversion.read_labels(item)
    labels = np.zeros_like(volume.array)
    for label in np.unique(volume.array).tolist():
        labels[volume.array == label] = ids[label] if conversion.manifest.mask_type != "instance" else label > 0
    if grid.shape != labels.shape:
        raise InputError(f"{item.case.case_id}: the image is {grid.shape}, its mask {labels.shape}")
    target = conversion.out / relative
    source = (item.case.label or ("",))[0]
    if stored is not None and source.lower().endswith(find_ending(relative) or ".") and _same_values(stored, labels):
        place_file(locate_file(conversion.root, source), target, conversion.link)
    elif is_volume(conversion.manifest, item.case):
        affine = grid.affine if volume.affine is None else volume.affine
        write_nifti(Volume(fit_labels(labels), affine, volume.header), target, known_spacing=volume.is_placed())
    else:
        write_picture(fit_labels(labels), target)


def _same_values(stored: NDArray[Any], labels: NDArray[np.int32]) -> bool:
    # Some programs read pixels of one bit as 0 and 255.
    return stored.dtype != np.bool_ and stored.shape == labels.shape and np.array_equal(stored, labels)


def describe_losses(manifest: Manifest, items: Sequence[Item]) -> list[str]:
    """Return notes on the facts that these layouts cannot express."""
    notes = []
    if manifest.mask_type == "instance":
        notes.append("this layout has no instances: all objects became label 1")
    stacks = sum(len(item.case.image) > 1 and manifest.stacking == "slices" for item in items)
    if stacks:
        notes.append(f"stacks of pictures that became volumes, their unknown voxel size written as 1 x 1 x 1: {stacks}")
    unlabelled = sum(item.case.label is None and item.part != "test" for item in items)
    if unlabelled:
        notes.append(f"cases without mask, in imagesTs with the test cases: {unlabelled}")
    return notes


def name_labels(manifest: Manifest, items: Sequence[Item]) -> dict[int, str]:
    """Return the names of the labels by id, first ``background`` as both layouts require.

    Raises:
        InputError: there are masks, but no label except background; or two labels have the same name.
    """
    names = {label: name for label, name in sorted(manifest.labels.items()) if label != 0}
    if not names and any(item.case.label for item in items):
        raise InputError(f"manifest {manifest.name!r} names no labels, so its masks cannot be converted")
    if len(set(names.values()) | {"background"}) <= len(names):
        raise InputError(f"manifest {manifest.name!r} has two labels with the same name: {', '.join(names.values())}")
    return {0: "background", **names}


def id_of_ignored(ids: Mapping[int, int], ignored: int | None) -> dict[int, int]:
    """Return the table of ids, extended by the id of ignored pixels."""
    return dict(ids) if ignored is None else {**ids, IGNORED: ignored}
