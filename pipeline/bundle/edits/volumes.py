"""Volumes of another grid: voxels of the size that is usual in the dataset, crops that hold what is to be learnt."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from pipeline.bundle.configs import Config
from pipeline.bundle.draft import Draft
from pipeline.datasets.files import locate_file
from pipeline.datasets.manifests.manifest import Case


def edit_volumes(draft: Draft) -> None:
    """Set the voxel size, and draw crops by label where a crop is smaller than a volume."""
    if draft.dataset.kind.shape != "volumes":
        return
    turned = any(block.acts_on("image") for block in draft.configs.find("Orientationd"))
    spacing = _find_spacing(draft, turned=turned)
    if spacing is not None:
        _set_spacing(draft, spacing)
    _edit_crops(draft, spacing)


def _set_spacing(draft: Draft, spacing: list[float]) -> None:
    for block in draft.configs.find("Spacingd"):
        knob = draft.configs.knob_behind(block.item.get("pixdim"))
        old = draft.train.get(knob) if knob else block.item.get("pixdim")
        if old == spacing:
            continue
        if knob:
            draft.configs.set_knob(knob, spacing)
        else:
            block.item["pixdim"] = spacing
        draft.tell(f"spacing: {old} -> {spacing} mm, the median of the training cases")


def _find_spacing(draft: Draft, *, turned: bool) -> list[float] | None:
    """Return the median voxel size of the training cases along each axis, None if it is not known.

    Args:
        draft: with its dataset.
        turned: the axes are those of the body (right, anterior, superior), not those of the files.
    """
    known = [
        _turn(draft, case) if turned else list(case.facts["spacing"])
        for case in draft.dataset.parts["train"]
        if case.facts.get("spacing")
    ]
    if not known or len({len(sizes) for sizes in known}) != 1:
        return None
    return [round(float(median(axis)), 3) for axis in zip(*known, strict=True)]


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


def _edit_crops(draft: Draft, spacing: Sequence[float] | None) -> None:
    """Centre every other crop on a label where a crop anywhere would seldom hold one."""
    extents = [_measure(case) for case in draft.dataset.parts["train"] if case.facts.get("shape")]
    for block in draft.configs.find("RandSpatialCropd"):
        size = block.item.get("roi_size")
        knob = draft.configs.knob_behind(size)
        sides = draft.train.get(knob) if knob else size
        if not extents or spacing is None or not isinstance(sides, list):
            continue
        crop = sorted(side * step for side, step in zip(sides, spacing, strict=False))
        usual = [median(axis) for axis in zip(*extents, strict=True)]
        if all(extent <= side for extent, side in zip(usual, crop, strict=False)):
            continue
        kept: Config = {"keys": block.item["keys"], "label_key": "label", "spatial_size": size}
        block.item.clear()
        block.item.update({"_target_": "RandCropByPosNegLabeld", **kept, "pos": 1, "neg": 1, "num_samples": 1})
        draft.tell("crops: every other one is centred on a label, for volumes are larger than a crop")


def _measure(case: Case) -> list[float]:
    """Return the lengths of a volume in mm, the shortest first: axes of files and of the body differ in order."""
    shape = case.facts["shape"]
    return sorted(length * step for length, step in zip(shape, case.facts.get("spacing") or [1.0] * 3, strict=False))
