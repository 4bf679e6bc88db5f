"""Remarks in configs (``_desc_``): what was said of the source's data would be false of others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pipeline.bundle.config_files import INFERENCE
from pipeline.bundle.draft import Draft

REMARK = "_desc_"
PHANTOM = "phantom.json"
# Words of a task that say nothing of its data.
_COMMON = re.compile(
    "and|are|for|not|one|the|this|that|their|with|from|every|everything|else|above|below|single|small|large|task|training"
    "|segmentation|network|background|foreground|objects?|labels?|masks?|images?|volumes?|slices?|channels?|intensity"
    "|red|green|blue"
)
_OF_THE_DATA = frozenset(("patient", "dataset", "set", "these"))
_GIVEN = {
    "pictures": "a picture, a folder of pictures, or a folder of such folders",
    "stacks": "a slice, a folder of slices, or a folder of such folders",
    "volumes": "a NIfTI file, a DICOM series' folder, or a folder of either",
}
# By what the source writes: it goes on to do so.
_WRITTEN = {
    "pictures": "<name>_pred, as PNG or TIFF",
    "stacks": "<folder>/<name>_pred, as TIFF or PNG",
    "volumes": "<name>_pred.nii.gz",
}


def edit_remarks(draft: Draft) -> None:
    """Drop remarks that speak of the source's data, and say anew what inference takes and gives."""
    words = set(_read_words(draft.metadata)) | _OF_THE_DATA
    for data in draft.configs.files.values():
        for item in _walk(data):
            if item is not data and _split(str(item.get(REMARK, ""))) & words:
                del item[REMARK]
    inference = draft.configs.files.get(INFERENCE, {})
    if REMARK in inference and draft.dataset.kind.shape in _GIVEN:
        given, written = _GIVEN[draft.dataset.kind.shape], _WRITTEN[draft.kind.shape]
        inference[REMARK] = f"Above: the knobs. input: {given}. Masks: output_dir/{written}, on the image's own grid"
    if REMARK in draft.configs.files.get(PHANTOM, {}):
        what = "a small network for a few epochs, to try the bundle in a minute"
        draft.configs.files[PHANTOM][REMARK] = f"Overrides of train.json, evaluate.json and inference.json: {what}"


def _walk(item: Any) -> Iterator[dict[str, Any]]:
    if isinstance(item, dict):
        yield item
    for value in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from _walk(value)


def _split(text: str) -> set[str]:
    """Return the words of a text in lower case, without the s of a plural or a genitive."""
    return {word.removesuffix("s") for word in re.findall(r"[^\W\d_]+", text.casefold().replace("'s", ""))}


def _read_words(metadata: dict[str, Any]) -> Iterator[str]:
    """Yield the words with which a bundle speaks of its data."""
    tensors = metadata.get("network_data_format", {})
    names = [
        name for part in tensors.values() for tensor in part.values() for name in tensor.get("channel_def", {}).values()
    ]
    for text in (str(metadata.get("task", "")), *map(str, names)):
        yield from (word for word in _split(text) if len(word) > 2 and not _COMMON.fullmatch(word))
