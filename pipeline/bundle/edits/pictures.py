"""Pictures of another form: the grid that they are resized to keeps their proportions."""

from __future__ import annotations

import math
from typing import Any

from pipeline.bundle.draft import Draft

# Five halvings, as many as a network of the suite makes.
_STEP = 32
_LEAST = 64
# Largest difference of the proportions of pictures that count as alike.
_ALIKE = 0.05


def edit_pictures(draft: Draft) -> None:
    """Resize pictures to a grid of their own proportions, with no more pixels than the source's, and never larger ones.

    Pictures of different proportions, and networks that are made for one size, keep the source's grid.
    """
    shapes = [case.facts["shape"] for case in draft.dataset.parts["train"] if case.facts.get("shape")]
    if draft.dataset.kind.shape != "pictures" or not shapes or "img_size" in draft.train["network_def"]:
        return
    ratios = [rows / columns for rows, columns, *_ in shapes]
    if max(ratios) > min(ratios) * (1 + _ALIKE):
        return
    rows, columns = (sorted(axis)[len(shapes) // 2] for axis in list(zip(*shapes, strict=True))[:2])
    for block in draft.configs.find("Resized"):
        knob = draft.configs.knob_behind(block.item.get("spatial_size"))
        old = draft.train.get(knob) if knob else block.item.get("spatial_size")
        if not block.acts_on("image") or not isinstance(old, list):
            continue
        new = fit_grid(rows, columns, old)
        if new == old:
            continue
        _set(draft, knob, block.item, old, new)
        for tensors in draft.metadata["network_data_format"].values():
            for tensor in tensors.values():
                if tensor.get("spatial_shape") == old:
                    tensor["spatial_shape"] = new
        draft.tell(f"grid: {old} -> {new}, the proportions of the pictures")


def _set(draft: Draft, knob: str, item: dict[str, Any], old: list[int], new: list[int]) -> None:
    if not knob:
        item["spatial_size"] = new
    for data in draft.configs.files.values() if knob else ():
        if data.get(knob) == old:  # a trial keeps its small one
            data[knob] = new


def fit_grid(rows: int, columns: int, source: list[int]) -> list[int]:
    """Return the grid for pictures of a size: multiples of 32, at least 64, no more pixels than the source's grid.

    Example:
        >>> fit_grid(128, 160, [256, 256]), fit_grid(768, 1024, [256, 256]), fit_grid(50, 50, [256, 256])
        ([128, 160], [224, 288], [64, 64])
    """
    scale = min(1.0, math.sqrt(math.prod(source) / (rows * columns)))
    return [max(_LEAST, _STEP * round(side * scale / _STEP)) for side in (rows, columns)]
