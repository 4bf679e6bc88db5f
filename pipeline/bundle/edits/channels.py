"""Another number of channels, or channels of another meaning."""

from __future__ import annotations

from pipeline.bundle.config_files import TRAIN
from pipeline.bundle.configs import Block, Config
from pipeline.bundle.draft import Draft
from pipeline.issues import InputError

FINDERS = ("find_inputs", "find_images", "find_volumes")
FIGURES = ("SegmentationFigures", "PredictionGallery")
SAVERS = ("SaveMaskd", "SaveSliceStackd")
# What a picture file may have beside an alpha channel.
_WITH_ALPHA = (1, 3)


def count_source_channels(draft: Draft) -> int:
    """Return how many channels an image file of the source has.

    Raises:
        InputError: the network's channels are no multiple of the slices that it sees.
    """
    channels = draft.network("in_channels")
    if channels % draft.slices:
        raise InputError(
            f"{draft.source / 'configs' / TRAIN}: in_channels {channels} is no multiple of {draft.slices} slices"
        )
    return int(channels // draft.slices)


def edit_channels(draft: Draft) -> None:
    """Make the network, the normalisation, augmentation, checks and figures fit the dataset's channels."""
    old, new = count_source_channels(draft), len(draft.dataset.channels)
    if old != new:
        draft.set_network("in_channels", new * draft.slices)
        times = f", times {draft.slices} slices" if draft.slices > 1 else ""
        draft.tell(f"channels: {old} -> {new} ({', '.join(draft.dataset.channels)}{times})")
    for block in draft.configs.find(*FINDERS):
        block.item["channels"] = new
    _edit_normalisation(draft, same_number=old == new)
    _drop_copies(draft)
    _edit_alpha(draft, new)
    _edit_figures(draft, new)


def _edit_normalisation(draft: Draft, *, same_number: bool) -> None:
    """Replace constants that were measured on other channels, or on 8-bit values, by the image's own."""
    eight_bit = draft.dataset.is_eight_bit
    for block in draft.configs.find("NormalizeIntensityd"):
        if "subtrahend" in block.item and not (same_number and eight_bit):
            kept = {key: block.item[key] for key in ("_target_", "keys")}
            _replace(block, {**kept, "channel_wise": True})
            draft.tell("normalisation: mean and deviation of each image, channel by channel, instead of constants")
    for block in draft.configs.find("ScaleIntensityRanged"):
        if not eight_bit:
            kept = {key: block.item[key] for key in ("_target_", "keys", "b_min", "b_max") if key in block.item}
            changed = {"lower": 0.5, "upper": 99.5, "clip": True, "channel_wise": True}
            _replace(block, {**kept, "_target_": "ScaleIntensityRangePercentilesd", **changed})
            draft.tell("normalisation: percentiles of each image instead of the range of 8 bits")


def _replace(block: Block, item: dict[str, object]) -> None:
    block.item.clear()
    block.item.update(item)


def _drop_copies(draft: Draft) -> None:
    """Drop an augmentation that says which channel stands in for which, unless the channels are the source's."""
    inputs = draft.metadata.get("network_data_format", {}).get("inputs", {})
    names: Config = next((item.get("channel_def", {}) for item in inputs.values()), {})
    first = len(draft.dataset.channels) * draft.neighbours[0]
    own = [str(names.get(str(first + index), "")) for index in range(len(draft.dataset.channels))]
    # The metadata say of a neighbouring slice's channel, behind a comma, which slice it is of.
    if [name.split(",")[0] for name in own] == list(draft.dataset.channels):
        return
    for block in draft.configs.find("RandCopyChanneld"):
        draft.configs.remove(block)
        draft.tell("augmentation: RandCopyChanneld dropped, it belongs to the source's channels")


def _edit_alpha(draft: Draft, channels: int) -> None:
    """Let opaque alpha channels pass where pictures may have them, and only there."""
    pictures = draft.dataset.kind.shape == "pictures"
    blocks = draft.configs.find("DropAlphad")
    for block in blocks:
        if channels not in _WITH_ALPHA:
            draft.configs.remove(block)
        else:
            block.item["channels"] = channels
    if blocks or not pictures or channels not in _WITH_ALPHA:
        return
    for block in draft.configs.find("LoadImaged", "LoadSliceStackd"):
        if block.acts_on("image"):
            item = {"_target_": "pipeline.transforms.DropAlphad", "keys": "image", "channels": channels}
            draft.configs.insert_after(block, item)


def _edit_figures(draft: Draft, channels: int) -> None:
    """Show the slice itself, not its neighbours; in colour if it has three channels."""
    first = channels * draft.neighbours[0]
    shown = [first, first + 1, first + 2] if channels == 3 else [first]
    for block in draft.configs.find(*FIGURES):
        knob = draft.configs.knob_behind(block.item.get("channels"))
        if knob:
            draft.configs.set_knob(knob, shown)
        elif draft.slices > 1:
            block.item["channels"] = shown
        else:
            block.item.pop("channels", None)
    for block in draft.configs.find(*SAVERS):
        block.item.pop("channels", None)
