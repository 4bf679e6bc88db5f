"""Mask values as stored in files turned into label ids."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey

__all__ = ["EncodeMask", "EncodeMaskd"]


class EncodeMask(Transform):
    """Replace the grey values of a mask by label ids, and refuse any value that was not declared.

    MONAI's ``MapLabelValue`` leaves unknown values as they are, so a mask stored as {0, 1} instead of {0, 255}, or
    one damaged by JPEG, would train silently on wrong labels.

    Args:
        values: grey value of each label id: ``values[0]`` is background.

    Example:
        >>> import torch
        >>> EncodeMask([0, 255])(torch.tensor([[[0.0, 255.0]]])).tolist()
        [[[0.0, 1.0]]]
        >>> EncodeMask([0, 255])(torch.tensor([[[0.0, 1.0]]]))
        Traceback (most recent call last):
        ...
        ValueError: mask has the values [0, 1], expected only [0, 255]
    """

    def __init__(self, values: Sequence[int] = (0, 255)) -> None:
        if len(values) < 2 or len(set(values)) != len(values):
            raise ValueError(f"values must name at least two different grey values, got {list(values)}")
        self.values = list(values)

    def __call__(self, mask: torch.Tensor) -> torch.Tensor:
        """Encode a mask ``(1, *spatial)``; the result has the same shape and dtype.

        Raises:
            ValueError: the mask has several channels, or a value that is not among ``values``.
        """
        name = mask.meta.get(ImageMetaKey.FILENAME_OR_OBJ, "") if isinstance(mask, MetaTensor) else ""
        where = f"mask {name}" if name else "mask"
        if mask.shape[0] != 1:
            raise ValueError(f"{where} has {mask.shape[0]} channels, expected 1")
        encoded = torch.zeros_like(mask)
        known = torch.zeros_like(mask, dtype=torch.bool)
        for label, value in enumerate(self.values):
            here = mask == value
            encoded[here] = label
            known |= here
        if not bool(known.all()):
            seen = [int(v) if float(v).is_integer() else float(v) for v in torch.unique(mask).tolist()]
            shown = str(seen) if len(seen) <= 8 else f"{seen[:8]} and {len(seen) - 8} more"
            raise ValueError(f"{where} has the values {shown}, expected only {self.values}")
        return encoded


class EncodeMaskd(MapTransform):
    """Dictionary version of :class:`EncodeMask`.

    Args:
        keys: items that hold masks ``(1, *spatial)``.
        values: grey value of each label id.
        allow_missing_keys: skip keys that a case does not have.
    """

    def __init__(
        self, keys: KeysCollection, values: Sequence[int] = (0, 255), allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.encode = EncodeMask(values)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Encode the mask under each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.encode(result[key])
        return result
