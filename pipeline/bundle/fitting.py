"""Settings that fit a dataset: sizes, voxel size, tiles, crops, repeats, memory."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from pipeline.bundle.configs import Config
from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.datasets.files import locate_file
from pipeline.datasets.manifests.manifest import Case
from pipeline.issues import InputError

# Five halvings, as many as a network of the suite makes.
_STEP = 32
_LEAST = 64
# Largest difference between the proportions of pictures that count as alike.
_ALIKE = 0.05
# Four poolings: tiles that are smaller by a multiple of this fit a network without padding as well.
_STRIDE = 16
# Optimiser steps that an epoch has at least.
_LEAST_STEPS = 8
# Gigabytes that cached cases may take: half of the memory of a small workstation.
_CACHE_LIMIT = 8.0
_BYTES = 4
# A picture of more pixels than this is large for a network that sees it whole.
_LARGE = 2048 * 2048


def fit_sizes(draft: Draft) -> Config:
    """Return the sizes of images, tiles or voxels that replace those of the recipe.

    Raises:
        InputError: an image is smaller than the smallest tile.
    """
    fit = {"pictures": _fit_image_size, "objects": _fit_tiles, "volumes": _fit_spacing}.get(draft.template)
    return fit(draft) if fit else {}


def _list_shapes(dataset: UserDataset, *splits: str) -> list[list[int]]:
    cases = [case for split in splits for case in dataset.parts[split]]
    return [case.facts["shape"] for case in cases if case.facts.get("shape")]


def _fit_image_size(draft: Draft) -> Config:
    """Keep the proportions of the pictures.

    Pictures of different proportions, and networks that are made for one size, keep the recipe's size.
    """
    shapes = _list_shapes(draft.dataset, "train")
    ratios = [rows / columns for rows, columns, *_ in shapes]
    if not shapes or "img_size" in draft.recipe.network_def or max(ratios) > min(ratios) * (1 + _ALIKE):
        return {}
    rows, columns = (sorted(axis)[len(shapes) // 2] for axis in list(zip(*shapes, strict=True))[:2])
    return {"image_size": fit_grid(rows, columns, draft.recipe.knobs["image_size"])}


def fit_grid(rows: int, columns: int, size: list[int]) -> list[int]:
    """Return the grid for pictures of a size: multiples of 32, at least 64, no more pixels than another grid.

    Args:
        rows: of the pictures.
        columns: of the pictures.
        size: the other grid.

    Example:
        >>> fit_grid(128, 160, [256, 256]), fit_grid(768, 1024, [256, 256]), fit_grid(50, 50, [256, 256])
        ([128, 160], [224, 288], [64, 64])
    """
    scale = min(1.0, math.sqrt(math.prod(size) / (rows * columns)))
    return [max(_LEAST, _STEP * round(side * scale / _STEP)) for side in (rows, columns)]


def _fit_tiles(draft: Draft) -> Config:
    """Take smaller tiles where an image is smaller than the output of a tile."""
    shapes = [case.facts["shape"] for case in draft.dataset.manifest.cases if case.facts.get("shape")]
    if not shapes:
        return {}
    smallest = min(min(shape[:2]) for shape in shapes)
    sizes = {name: draft.recipe.knobs[name] for name in ("input_size", "output_size")}
    steps = max(0, -(-(max(sizes["output_size"]) - smallest) // _STRIDE))
    smaller = {name: [side - _STRIDE * steps for side in sides] for name, sides in sizes.items()}
    margin = (max(sizes["input_size"]) - max(sizes["output_size"])) // 2
    if min(smaller["output_size"]) < 1 or smallest <= margin:
        raise InputError(
            f"{draft.recipe.title} mirrors {margin} pixels at each border and needs larger images, but the smallest of"
            f" {draft.dataset.path.name} has {smallest} pixels a side"
        )
    return smaller


def _fit_spacing(draft: Draft) -> Config:
    """Take the median voxel size of the training cases along the axes of the body, if it is known."""
    known = [_turn(draft, case) for case in draft.dataset.parts["train"] if case.facts.get("spacing")]
    if not known or len({len(sizes) for sizes in known}) != 1:
        return {}
    return {"spacing": [round(float(median(axis)), 3) for axis in zip(*known, strict=True)]}


def _turn(draft: Draft, case: Case) -> list[float]:
    """Return the voxel size of a case along the axes of the body; along those of the file if that cannot be read."""
    import nibabel as nib

    sizes = list(case.facts["spacing"])
    if draft.dataset.folder is None or len(set(sizes)) == 1:
        return sizes
    try:
        image: Any = nib.load(locate_file(draft.dataset.folder, case.image[0]))
        axes = nib.io_orientation(image.affine)[:, 0]
    except (OSError, ValueError, nib.filebasedimages.ImageFileError):
        return sizes
    turned = list(sizes)
    for size, axis in zip(sizes, axes, strict=False):
        if axis == axis and int(axis) < len(turned):  # NaN where an axis is dropped
            turned[int(axis)] = size
    return turned


def needs_balanced_crops(dataset: UserDataset, roi_size: Sequence[int], spacing: Sequence[float]) -> bool:
    """Return whether volumes are larger than a crop, so that a crop anywhere would seldom hold a label.

    Args:
        dataset: volumes.
        roi_size: of a crop, in voxels.
        spacing: voxel size in mm.
    """
    cases = [case for case in dataset.parts["train"] if case.facts.get("shape") and case.facts.get("spacing")]
    if not cases:
        return False
    crop = sorted(side * step for side, step in zip(roi_size, spacing, strict=False))
    # Axes of files and of the body differ in order.
    extents = [
        sorted(length * step for length, step in zip(case.facts["shape"], case.facts["spacing"], strict=False))
        for case in cases
    ]
    usual = [median(axis) for axis in zip(*extents, strict=True)]
    return any(extent > side for extent, side in zip(usual, crop, strict=False))


def count_repeats(draft: Draft) -> int:
    """Return how often a training case is drawn in one epoch, so that small datasets fill an epoch."""
    batch = draft.recipe.knobs["batch_size"]
    return -(-_LEAST_STEPS * batch // len(draft.dataset.parts["train"]))


def fit_cache_rate(draft: Draft) -> tuple[float, float]:
    """Return the share of cases that may be kept in memory, and the gigabytes that all would take."""
    # Masks stay at their size, as bytes where images are made small, else as numbers.
    voxel = 1 if draft.template == "pictures" else _BYTES * (len(draft.dataset.channels) + 1)
    total = sum(math.prod(shape) for shape in _list_shapes(draft.dataset, "train", "val")) * voxel / 1e9
    return int(100 * _CACHE_LIMIT / max(total, _CACHE_LIMIT)) / 100, total


def find_large_pictures(draft: Draft) -> float:
    """Return the megapixels of the largest picture, if the network sees it whole and it is large; else 0."""
    shapes = _list_shapes(draft.dataset, "train", "val")
    largest = max((math.prod(shape[:2]) for shape in shapes), default=0)
    whole = draft.template in ("stacks", "objects")
    return largest / 1e6 if whole and largest > _LARGE else 0.0
