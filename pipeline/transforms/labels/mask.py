"""Stored mask values converted to label ids."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.transforms import Transform

from pipeline.datasets.probes.pixels import NEAR
from pipeline.flags import read_flag
from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import name_item

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_OPAQUE = 255


class EncodeMask(Transform):
    """Replace the values of a mask by label ids, and reject any value that was not declared.

    MONAI's ``MapLabelValue`` keeps unknown values, so with a mask stored as {0, 128} instead of {0, 255}, or changed by
    JPEG, training would silently use wrong labels. Values within 0.01 of a whole number are rounded to it, because
    tools that scale or resample masks write 0.9999 for 1.

    A mask that holds label ids already, as clients such as MONAI Label store them, stays as it is.

    The arguments correspond to a manifest's ``mask_values``, ``binarize``, ``color_map`` and ``ignore_index``. A grey
    mask that was saved in colour, its red, green and blue equal, is read as grey; an opaque alpha channel is dropped.

    Args:
        values: grey value of each label id, background first; or the label id of each grey value, where several values
            may mean the same label and JSON's text keys are read as numbers (``{"0": 0, "255": 1}``).
        threshold: for lossy masks: values from this one on are label 1, the others 0; ``values`` is not used.
        colors: for coloured masks ``(3, *spatial)`` or ``(4, *spatial)`` of 8-bit values: label id of each colour
            ``"#rrggbb"``; an opaque alpha channel is dropped; ``values`` is not used.
        ignore_index: a value without a class, which is kept for losses that ignore it.
        unite: the channels are several masks of one image (see `pipeline.transforms.LoadMasksd`): each is encoded,
            and their union is returned, the highest label where they overlap.

    Example:
        >>> EncodeMask([0, 255])(torch.tensor([[[0.0, 255.0]]])).tolist()
        [[[0.0, 1.0]]]
        >>> EncodeMask([0, 255])(torch.tensor([[[0.0, 1.0]]])).tolist()
        [[[0.0, 1.0]]]
        >>> EncodeMask([0, 2, 3])(torch.tensor([[[0.0, 1.0]]]))
        Traceback (most recent call last):
        ...
        ValueError: mask has the values [0, 1], expected only [0, 2, 3]
        >>> EncodeMask([0, 255])(torch.tensor([[[0.0, 1.0, 255.0]]]))
        Traceback (most recent call last):
        ...
        ValueError: mask has the values [0, 1, 255], expected only [0, 255]
        >>> EncodeMask(threshold=128)(torch.tensor([[3.0, 127.0, 250.0]])).tolist()
        [[0.0, 0.0, 1.0]]
        >>> EncodeMask(colors={"#000000": 0, "#ff0000": 2})(torch.tensor([[0, 255], [0, 0], [0, 0]])).tolist()
        [[0, 2]]
        >>> EncodeMask({0: 0, 1: 1, 2: 1}, ignore_index=255)(torch.tensor([[0, 2, 255]])).tolist()
        [[0, 1, 255]]
        >>> EncodeMask([0, 255], unite=True)(torch.tensor([[0, 255, 0], [0, 0, 255]])).tolist()
        [[0, 1, 1]]
    """

    def __init__(
        self,
        values: Sequence[int] | Mapping[Any, int] = (0, 255),
        *,
        threshold: float | None = None,
        colors: Mapping[str, int] | None = None,
        ignore_index: int | None = None,
        unite: bool | str = False,
    ) -> None:
        if threshold is not None and colors is not None:
            raise ValueError("set threshold or colors, not both")
        self.unite = read_flag(unite, "unite")
        if self.unite and (colors is not None or ignore_index is not None):
            raise ValueError("unite takes grey masks, without colors and ignore_index")
        self.labels = _read_values(values)
        self.threshold = threshold
        self.colors = None if colors is None else _read_colors(colors)
        self.ignore_index = ignore_index
        taken = {*self.labels, *self.labels.values()} if threshold is None and colors is None else set()
        if ignore_index in taken:
            raise ValueError(f"ignore_index {ignore_index} is also a value or the id of a label; choose another number")

    def __call__(self, mask: torch.Tensor) -> torch.Tensor:
        """Encode a mask ``(1, *spatial)``, or ``(C, *spatial)`` with colours, alpha, or several masks to unite.

        Returns:
            Label ids ``(1, *spatial)`` in the mask's dtype.

        Raises:
            ValueError: the mask has channels that differ, or a value that is not declared.
        """
        where = name_item(mask, "mask")
        if self.colors is not None:
            return self._replace(_pack_colors(mask, where), self.colors, where, _show_colour)
        if self.unite:
            return self._encode(mask, where).amax(dim=0, keepdim=True)
        return self._encode(_take_grey(mask, where), where)

    def _encode(self, mask: torch.Tensor, where: str) -> torch.Tensor:
        mask = _round(mask)
        if self.threshold is not None:
            return self._binarize(mask, self.threshold, where)
        return self._replace(mask, self.labels, where, _show_number)

    def _binarize(self, mask: torch.Tensor, threshold: float, where: str) -> torch.Tensor:
        if bool(torch.isnan(mask).any()):
            raise ValueError(f"{where} has values that are not a number")
        encoded = (mask >= threshold).to(mask.dtype)
        if self.ignore_index is not None:
            encoded[mask == self.ignore_index] = self.ignore_index
        return encoded

    def _replace(self, mask: torch.Tensor, labels: Mapping[int, int], where: str, show: Any) -> torch.Tensor:
        if self.ignore_index is not None and self.colors is None:
            labels = {**labels, self.ignore_index: self.ignore_index}
        encoded = torch.zeros_like(mask)
        known = torch.zeros_like(mask, dtype=torch.bool)
        for value, label in labels.items():
            here = mask == value
            encoded[here] = label
            known |= here
        if not bool(known.all()):
            if self.colors is None and _are_ids(mask, labels):
                return mask
            seen = [show(value) for value in torch.unique(mask).tolist()]
            shown = f"[{', '.join(seen[:8])}]" + (f" and {len(seen) - 8} more" if len(seen) > 8 else "")
            allowed = ", ".join(show(value) for value in labels)
            raise ValueError(f"{where} has the values {shown}, expected only [{allowed}]")
        return encoded


def _are_ids(mask: torch.Tensor, labels: Mapping[int, int]) -> bool:
    """Return whether a mask holds label ids, and no number that is also the stored value of another label."""
    ids = set(labels.values())
    certain = all(label == value for value, label in labels.items() if value in ids)
    return certain and set(torch.unique(mask).tolist()) <= ids


def _read_values(values: Sequence[int] | Mapping[Any, int]) -> dict[int, int]:
    if isinstance(values, Mapping):
        labels = {int(value): int(label) for value, label in values.items()}
    else:
        labels = {value: label for label, value in enumerate(values)}
    if len(labels) < 2 or len(labels) != len(values):
        shown = dict(values) if isinstance(values, Mapping) else list(values)
        raise ValueError(f"values must list at least two different grey values, got {shown}")
    return labels


def _read_colors(colors: Mapping[str, int]) -> dict[int, int]:
    wrong = [name for name in colors if not _COLOUR.fullmatch(name)]
    labels = {int(name[1:], 16): int(label) for name, label in colors.items() if name not in wrong}
    if wrong or len(labels) < 2:
        raise ValueError(f'colors must list at least two colours "#rrggbb", got {dict(colors)}')
    return labels


def _round(mask: torch.Tensor) -> torch.Tensor:
    if not mask.is_floating_point():
        return mask
    nearest = mask.round()
    return torch.where((mask - nearest).abs() <= NEAR, nearest, mask)


def _take_grey(mask: torch.Tensor, where: str) -> torch.Tensor:
    """Return a mask that was saved in colour or with an opaque alpha channel as grey ``(1, *spatial)``."""
    channels = mask.shape[0]
    if channels == 1:
        return mask
    colours = mask[:-1] if channels in (2, 4) and bool((mask[-1] == _OPAQUE).all()) else mask
    if colours.shape[0] in (1, 3) and bool((colours == colours[:1]).all()):
        return colours[:1]
    hint = "save it in grey, give colors, or load several masks of one image with LoadMasksd"
    raise ValueError(f"{where} has {channels} channels, expected 1, or 3 that are equal; {hint}")


def _pack_colors(mask: torch.Tensor, where: str) -> torch.Tensor:
    """Return colours as numbers 0xRRGGBB ``(1, *spatial)``; float32 holds them exactly."""
    if mask.shape[0] not in (3, 4):
        raise ValueError(f"{where} has {mask.shape[0]} channels, expected 3 (red, green, blue)")
    if mask.shape[0] == 4 and not bool((mask[3] == _OPAQUE).all()):
        raise ValueError(f"{where} has an alpha channel that is not opaque everywhere")
    wide = mask.to(torch.float32 if mask.is_floating_point() else torch.int32)
    return wide[0:1] * 65536 + wide[1:2] * 256 + wide[2:3]


def _show_number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _show_colour(value: float) -> str:
    return f"#{int(value):06x}" if float(value).is_integer() and 0 <= value < 1 << 24 else str(value)


class EncodeMaskd(DictTransform, array=EncodeMask):
    """Dictionary version of :class:`EncodeMask`, with the same further arguments.

    Args:
        keys: items that hold masks ``(1, *spatial)``, or ``(C, *spatial)`` with colours, alpha, or several masks.
        allow_missing_keys: skip keys that a case does not have.
    """
