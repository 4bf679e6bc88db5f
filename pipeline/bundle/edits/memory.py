"""Datasets that are larger than the source's: no more cases are kept in memory than fit there."""

from __future__ import annotations

from math import prod

from pipeline.bundle.config_files import TRAIN
from pipeline.bundle.draft import Draft

# Gigabytes that cached cases may take: half of what a small workstation has.
_LIMIT = 8.0
# A picture of more pixels than this is large for a network that sees it whole.
_LARGE = 2048 * 2048
_BYTES = 4


def edit_memory(draft: Draft) -> None:
    """Lower ``cache_rate`` where all cases would not fit into memory, and tell of pictures that are large."""
    shapes = [
        case.facts["shape"]
        for split in ("train", "val")
        for case in draft.dataset.parts[split]
        if case.facts.get("shape")
    ]
    resized = any(block.acts_on("image") for block in draft.configs.find("Resized", file=TRAIN))
    if not shapes:
        return
    # Masks stay at their size, as bytes where images are made small, else as numbers.
    voxel = 1 if resized else _BYTES * (len(draft.dataset.channels) + 1)
    total = sum(prod(shape) for shape in shapes) * voxel / 1e9
    knobs = {draft.configs.knob_behind(block.item.get("cache_rate")) for block in draft.configs.find("CacheDataset")}
    rate = int(100 * _LIMIT / max(total, _LIMIT)) / 100
    for knob in sorted(knobs - {""}) if rate < 1 else ():
        draft.configs.set_knob(knob, rate)
        draft.tell(f"memory: {knob} {rate}, for all cases would take {total:.0f} GB")
    largest = max(prod(shape[:2]) for shape in shapes)
    if not resized and draft.dataset.kind.shape in ("pictures", "stacks") and largest > _LARGE:
        what = "go through the network whole in validation and prediction"
        draft.tell(f"memory: pictures of {largest / 1e6:.0f} megapixels {what}; a source that resizes them needs less")
