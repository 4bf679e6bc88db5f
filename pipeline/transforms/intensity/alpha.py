"""Pictures with an alpha channel beside the channels that a network was made for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import ImageMetaKey

__all__ = ["DropAlpha", "DropAlphad"]

_OPAQUE = 255


class DropAlpha(Transform):
    """Remove an opaque alpha channel, so that a few RGBA files among RGB ones need no conversion.

    MONAI's reader gives RGBA pictures 4 channels and grey ones with alpha 2. An alpha channel that hides or blends
    pixels is refused: what is behind it is not what a person sees.

    Args:
        channels: number of channels without alpha.

    Example:
        >>> import torch
        >>> image = torch.tensor([[[7.0]], [[8.0]], [[9.0]], [[255.0]]])
        >>> DropAlpha()(image).flatten().tolist(), DropAlpha()(image[:3]).flatten().tolist()
        ([7.0, 8.0, 9.0], [7.0, 8.0, 9.0])
    """

    def __init__(self, channels: int = 3) -> None:
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.channels = channels

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return ``(channels, *spatial)`` of an 8-bit image ``(channels, *spatial)`` or ``(channels + 1, *spatial)``.

        Raises:
            ValueError: another number of channels, or an alpha channel that is not 255 everywhere.
        """
        if image.shape[0] == self.channels:
            return image
        name = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ, "") if isinstance(image, MetaTensor) else ""
        where = f"image {name}" if name else "image"
        if image.shape[0] != self.channels + 1:
            found = image.shape[0]
            raise ValueError(f"{where} has {found} channels, expected {self.channels}, or one more for alpha")
        if not bool((image[-1] == _OPAQUE).all()):
            raise ValueError(f"{where} has an alpha channel that is not opaque everywhere; flatten the file")
        return image[:-1]


class DropAlphad(MapTransform):
    """Dictionary version of :class:`DropAlpha`.

    Args:
        keys: items that hold images ``(C, *spatial)``.
        channels: number of channels without alpha.
        allow_missing_keys: skip keys that a case does not have.
    """

    def __init__(self, keys: KeysCollection, channels: int = 3, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.drop = DropAlpha(channels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Remove the alpha channel under each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.drop(result[key])
        return result
