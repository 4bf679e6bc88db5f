"""How masks are read: from files or from annotations, and what their values mean."""

from __future__ import annotations

from typing import Any

from pipeline.bundle.configs import Block
from pipeline.bundle.draft import Draft
from pipeline.issues import InputError

LOADERS = ("LoadImaged", "LoadSliceStackd", "LoadCocoMaskd")
_ENCODE = "pipeline.transforms.EncodeMaskd"
_DRAW = "pipeline.transforms.LoadCocoMaskd"
_MEANINGS = ("values", "threshold", "colors", "ignore_index")


def edit_masks(draft: Draft) -> None:
    """Load the dataset's masks as label ids."""
    if draft.dataset.kind.objects:
        return
    if draft.dataset.drawn:
        _draw(draft)
    else:
        _read_files(draft)
        _encode(draft)


def _find_label_loaders(draft: Draft) -> list[Block]:
    loaders = [block for block in draft.configs.find(*LOADERS) if block.acts_on("label")]
    if not loaders:
        raise InputError(f"{draft.source.name} has no transform that loads masks: {', '.join(LOADERS)} with key label")
    return loaders


def _draw(draft: Draft) -> None:
    """Draw masks from annotations, which hold label ids already."""
    for block in _find_label_loaders(draft):
        if block.target == "LoadCocoMaskd":
            continue
        reverse = block.item.get("reverse_indexing", True)
        block.item["keys"] = "image"
        item = {"_target_": _DRAW, "keys": "label", "manifest": "@manifest", "reverse_indexing": reverse}
        draft.configs.insert_after(block, item)
        draft.tell("masks: drawn from COCO annotations (LoadCocoMaskd)")
    for block in draft.configs.find("EncodeMaskd"):
        draft.configs.remove(block)


def _read_files(draft: Draft) -> None:
    """Read masks from files, as the images are read."""
    for block in _find_label_loaders(draft):
        if block.target != "LoadCocoMaskd":
            continue
        images = [found for found in draft.configs.find("LoadImaged", file=block.file) if found.acts_on("image")]
        if not images:
            raise InputError(f"{draft.source.name} reads images in another way than masks, so files cannot be read")
        block.item.clear()
        block.item.update({**images[0].item, "keys": "label"})
        draft.tell("masks: read from files, not drawn from annotations")


def _encode(draft: Draft) -> None:
    """Turn the values of the masks into label ids."""
    encoding = draft.dataset.encoding()
    blocks = draft.configs.find("EncodeMaskd")
    for block in blocks:
        for key in _MEANINGS:
            block.item.pop(key, None)
        block.item.update(encoding)
    if not blocks:
        for block in _find_label_loaders(draft):
            draft.configs.insert_after(block, {"_target_": _ENCODE, "keys": "label", **encoding})
    draft.tell(f"mask values: {_describe(encoding, draft.dataset.labels)}")


def _describe(encoding: dict[str, Any], labels: tuple[str, ...]) -> str:
    if "threshold" in encoding:
        return f"from {encoding['threshold']:g} on {labels[1]}"
    meaning: Any = encoding.get("colors") or encoding["values"]
    pairs = meaning.items() if isinstance(meaning, dict) else ((value, index) for index, value in enumerate(meaning))
    return ", ".join(f"{value} {labels[label]}" for value, label in pairs)
