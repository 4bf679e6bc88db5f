"""From one foreground label to several, or from several to another number: network, losses, sampling, masks written."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pipeline.bundle.configs import Block, Config
from pipeline.bundle.draft import Draft
from pipeline.issues import InputError


def edit_classes(draft: Draft) -> None:
    """Make the configs fit the number of labels; one label of a source that knows one needs nothing.

    Raises:
        InputError: the source holds a loss or a step that cannot be converted.
    """
    labels, old = len(draft.dataset.labels), int(draft.network("out_channels"))
    if draft.dataset.kind.objects or (old == 1 and labels == 2):
        return
    if old == 1:
        _leave_sigmoid(draft, labels)
    if old != labels:
        draft.set_network("out_channels", labels)
        draft.tell(f"labels: {max(old, 2)} -> {labels} with background ({', '.join(draft.dataset.labels)})")
    for block in _find_losses(draft):
        _fit_class_weights(block, labels)
    _edit_sampling(draft, labels)
    for block in draft.configs.find("KeepLargestConnectedComponentd"):
        block.item["applied_labels"] = list(range(1, labels))


# ---- one sigmoid channel becomes a channel a label ------------------------------------------------------------------


def _to_softmax(item: Config) -> Config:
    changed = {"softmax" if key == "sigmoid" else key: value for key, value in item.items()}
    return {**changed, "softmax": True, "to_onehot_y": True}


def _to_focal_softmax(item: Config) -> Config:
    return {**item, "use_softmax": True, "to_onehot_y": True}


#: How each loss is converted; a loss that is not here is refused, for it would train on something else.
LOSSES: dict[str, Callable[[Config], Config]] = {
    **dict.fromkeys(
        ("DiceLoss", "DiceCELoss", "DiceFocalLoss", "GeneralizedDiceLoss", "GeneralizedDiceFocalLoss", "TverskyLoss"),
        _to_softmax,
    ),
    "FocalLoss": _to_focal_softmax,
    "DeepSupervisionLoss": dict,
}


def _find_losses(draft: Draft) -> list[Block]:
    return [block for block in draft.configs.find() if block.id.split("#")[0] in ("loss", "losses")]


def _leave_sigmoid(draft: Draft, labels: int) -> None:
    for block in _find_losses(draft):
        if block.target not in LOSSES:
            raise InputError(
                f"{draft.source.name} cannot be converted to {labels} labels: its loss {block.target} ({block.id} in"
                f" {block.file}) is for one; known: {', '.join(LOSSES)}"
            )
        _rewrite(block, LOSSES[block.target](block.item))
    for block in draft.configs.find("Activationsd"):
        _rewrite(block, {("softmax" if key == "sigmoid" else key): value for key, value in block.item.items()})
    for block in draft.configs.find("AsDiscreted"):
        if "threshold" in block.item:
            _rewrite(block, {("argmax" if key == "threshold" else key): value for key, value in block.item.items()})
            block.item["argmax"] = True
    for block in draft.configs.find():
        if block.item.get("activation") == "sigmoid":
            block.item["activation"] = "softmax"
    _drop_threshold(draft)
    draft.tell("one output channel a label: softmax instead of sigmoid, the largest instead of a threshold")


def _rewrite(block: Block, item: Config) -> None:
    block.item.clear()
    block.item.update(item)


def _drop_threshold(draft: Draft) -> None:
    """Take out the threshold, and what searches one."""
    searches = draft.configs.find("ThresholdSearch")
    for block in searches:
        draft.configs.remove(block)
    copies = [block for block in draft.configs.find("CopyItemsd") if block.item.get("names") in ("prob", ["prob"])]
    for block in copies if searches else ():
        draft.configs.remove(block)
    for knob in ("threshold", "skip_threshold_search"):
        draft.configs.drop_knob(knob)


# ---- a number of labels becomes another one -------------------------------------------------------------------------


def _fit_class_weights(block: Block, labels: int) -> None:
    """Drop weights that were chosen for other labels."""
    for key in ("weight", "class_weight", "alpha"):
        value = block.item.get(key)
        if isinstance(value, list) and len(value) != labels:
            del block.item[key]


def _edit_sampling(draft: Draft, labels: int) -> None:
    """Draw crops of each label, as often as the source drew crops of its own."""
    for block in draft.configs.find("ClassesToIndicesd", "RandCropByLabelClassesd"):
        block.item["num_classes"] = labels
        if block.target == "RandCropByLabelClassesd" and labels > 2:
            block.item["warn"] = False  # few cases hold every label
        ratios: Any = block.item.get("ratios")
        if isinstance(ratios, list):
            block.item["ratios"] = share_ratios(ratios, labels)


def share_ratios(ratios: list[float], labels: int) -> list[float]:
    """Return how often a crop is centred on each label: background as before, the rest in equal parts.

    Args:
        ratios: of the source, background first.
        labels: number of labels with background.

    Example:
        >>> share_ratios([2, 1], 4), share_ratios([1, 1, 1], 2), share_ratios([0, 1], 3)
        ([6, 1, 1, 1], [1, 2], [0, 1, 1])
    """
    background, foreground = ratios[0] * (labels - 1), sum(ratios[1:])
    shared = [background, *[foreground] * (labels - 1)]
    whole = [int(value) for value in shared if float(value).is_integer()]
    if len(whole) < len(shared):
        return shared
    divisor = math.gcd(*whole) or 1
    return [value // divisor for value in whole]
