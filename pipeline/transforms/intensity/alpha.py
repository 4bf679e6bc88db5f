"""Opaque alpha channels of pictures, removed."""

import torch
from monai.transforms import Transform

from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import name_item

_OPAQUE = 255


class DropAlpha(Transform):
    """Remove an opaque alpha channel, so that a few RGBA files among RGB ones need no conversion.

    MONAI's reader gives RGBA pictures 4 channels, and grey pictures with alpha 2. An alpha channel that is not opaque
    is an error: the stored colours differ from the colours that a viewer shows.

    Args:
        channels: number of channels without alpha.

    Example:
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
        found = image.shape[0]
        if found == self.channels:
            return image
        where = name_item(image)
        if found != self.channels + 1:
            raise ValueError(f"{where} has {found} channels, expected {self.channels}, or one more for alpha")
        if not bool((image[-1] == _OPAQUE).all()):
            raise ValueError(f"{where} has an alpha channel that is not opaque everywhere; flatten the file")
        return image[:-1]


class DropAlphad(DictTransform, array=DropAlpha):
    """Dictionary version of :class:`DropAlpha`, with the same further arguments.

    Args:
        keys: items that hold images ``(C, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """
