"""Numbered objects (instances): tiles that fit the images, objects of every size."""

from __future__ import annotations

from typing import Any

from pipeline.bundle.draft import Draft
from pipeline.issues import InputError

_SIZES = ("input_size", "output_size")
# Four poolings: tiles that are smaller by a multiple of this fit a network without padding as well.
_STRIDE = 16


def edit_objects(draft: Draft) -> None:
    """Make tiles fit small images, and keep objects that are smaller than those of the source.

    Raises:
        InputError: an image is smaller than the smallest tile.
    """
    if not draft.dataset.kind.objects:
        return
    for block in draft.configs.find("LabelInstancesd"):
        knob = draft.configs.knob_behind(block.item.get("min_size"))
        if knob:
            draft.configs.set_knob(knob, 0)
        else:
            block.item.pop("min_size", None)
        draft.tell("post-processing: objects of every size are kept")
    shapes = [case.facts["shape"] for case in draft.dataset.manifest.cases if case.facts.get("shape")]
    if shapes:
        _shrink_tiles(draft, min(map(min, shapes)))


def _shrink_tiles(draft: Draft, smallest: int) -> None:
    """Take smaller tiles where an image is smaller than what a tile predicts."""
    for block in draft.configs.find("OverlapTileInferer"):
        sizes = {key: _list_sides(draft, block.item.get(key)) for key in _SIZES}
        steps = -(-(max(sizes["output_size"]) - smallest) // _STRIDE)
        if steps <= 0:
            continue
        smaller = {key: [side - _STRIDE * steps for side in sides] for key, sides in sizes.items()}
        margin = (max(sizes["input_size"]) - max(sizes["output_size"])) // 2
        if min(smaller["output_size"]) < 1 or smallest <= margin:
            raise InputError(
                f"{draft.source.name} mirrors {margin} pixels at each border and needs images of more than that, but"
                f" the smallest of {draft.dataset.path.name} has {smallest} pixels a side"
            )
        knobs = {key: draft.configs.knob_behind(block.item.get(key)) for key in _SIZES}
        for key, knob in knobs.items():
            if not knob:
                block.item[key] = smaller[key]
            for data in draft.configs.files.values() if knob else ():
                if knob in data and max(data[knob]) > max(smaller[key]):
                    data[knob] = smaller[key]
        draft.tell(f"tiles: {smaller['output_size']} pixels predicted at once, for images of {smallest} pixels a side")


def _list_sides(draft: Draft, size: Any) -> list[int]:
    knob = draft.configs.knob_behind(size)
    sides = draft.train.get(knob) if knob else size
    return list(sides) if isinstance(sides, list) else [int(sides or 0)] * 2
