"""What lies between probabilities and masks: holes of several labels, intensities that a CRF compares, what is on."""

from __future__ import annotations

from pipeline.bundle.configs import Block, read_target
from pipeline.bundle.draft import Draft

_EACH = "pipeline.transforms.EachLabel"
# What a picture file may have beside an alpha channel.
_WITH_ALPHA = (1, 3)
_FILE_UNITS = "in the file's units (0 to 255)"
_SCALED = "on the scale of the step before"
#: Steps that are on where they were tuned to gain.
_TUNED = (
    *("LoadSourced", "DenseCRFd", "MorphologicalOpeningd", "MorphologicalClosingd"),
    *("FillHolesd", "EachLabeld", "EachSliced", "RemoveSmallComponentsd"),
)


def edit_postprocessing(draft: Draft) -> None:
    """Make the steps behind the network fit the dataset's labels and files; what was tuned on others goes off."""
    if len(draft.dataset.labels) > 2 and not draft.dataset.kind.objects:
        _fill_by_label(draft)
    for block in draft.configs.find("DenseCRFd"):
        _drop_alpha(draft, block)
        _scale_intensity(draft, block)
    _switch_off(draft)


def _fill_by_label(draft: Draft) -> None:
    """Fill the holes of each label by itself, for MONAI's transform overwrites labels that another one surrounds."""
    for block in draft.configs.find("FillHolesd"):
        inner = {key: value for key, value in block.item.items() if key[0] != "_" and key != "keys"}
        outer = {key: value for key, value in block.item.items() if key not in (*inner, "_target_", "keys")}
        step = {"_target_": f"{_EACH}d", "keys": block.item["keys"], "transform": {"_target_": "FillHoles", **inner}}
        block.item.clear()
        block.item.update({**outer, **step})
    # Within a transform of slices.
    for block in draft.configs.find("EachSliced"):
        if read_target(block.item.get("transform")) == "FillHoles":
            block.item["transform"] = {"_target_": _EACH, "transform": block.item["transform"]}


def _drop_alpha(draft: Draft, crf: Block) -> None:
    """Let opaque alpha channels pass where pictures may have them: the CRF sees colours alone."""
    channels, image = len(draft.dataset.channels), crf.item.get("image_key")
    loaders = [block for block in draft.configs.find("LoadSourced", file=crf.file) if block.holder is crf.holder]
    known = any(read_target(step) == "DropAlphad" and step.get("keys") == image for step in crf.holder)
    if known or draft.dataset.kind.shape != "pictures" or channels not in _WITH_ALPHA:
        return
    for block in loaders:
        step = {"_target_": "pipeline.transforms.DropAlphad", "keys": image, "channels": channels}
        draft.configs.insert_after(block, {**_read_switch(crf), **step})


def _scale_intensity(draft: Draft, crf: Block) -> None:
    """Bring intensities that are not of 8 bits to the range in which the CRF's width of intensity is given."""
    image = crf.item.get("image_key")
    scaled = any(read_target(step).startswith("ScaleIntensity") and step.get("keys") == image for step in crf.holder)
    if scaled or (draft.dataset.is_eight_bit and draft.dataset.kind.shape != "volumes"):
        return
    limits = {"lower": 0.5, "upper": 99.5, "b_min": 0.0, "b_max": 255.0, "clip": True, "channel_wise": True}
    step = {"_target_": "ScaleIntensityRangePercentilesd", "keys": image, **limits}
    draft.configs.insert_before(crf, {**_read_switch(crf), **step})
    if "_desc_" in crf.item:
        crf.item["_desc_"] = crf.item["_desc_"].replace(_FILE_UNITS, _SCALED)
    draft.tell("post-processing: the CRF compares intensities between percentiles of each image, as 0 to 255")


def _read_switch(crf: Block) -> dict[str, object]:
    return {"_disabled_": crf.item["_disabled_"]} if "_disabled_" in crf.item else {}


def _switch_off(draft: Draft) -> None:
    """Switch off what gained on the source's data."""
    for block in draft.configs.find(*_TUNED):
        knob = draft.configs.knob_behind(block.item.get("_disabled_"))
        if knob and any(data.get(knob, True) is not True for data in draft.configs.files.values()):
            draft.configs.set_knob(knob, True)
            draft.tell(f"post-processing: {knob} true, for it was tuned on the source's data")
