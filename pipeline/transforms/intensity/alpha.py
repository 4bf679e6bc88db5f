"""Pictures saved with more or fewer channels than the others: opaque alpha, grey in colour, grey among colours."""

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import is_no_channel
from monai.transforms import Transform
from monai.utils import MetaKeys

from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import name_item

_OPAQUE = 255
# Grey or three colours, without and with alpha.
_COLOURS = (1, 3)
_WITH_ALPHA = (2, 4)
_PICTURE = 3  # axes of a picture (C, H, W)
_CHANNELS_LAST = 4  # axes of a picture (1, H, W, C)


class DropAlpha(Transform):
    """Bring a picture to the wanted channels where nothing is lost, so that a few odd files need no conversion.

    An opaque alpha channel is removed: MONAI's reader gives RGBA pictures 4 channels, and grey pictures with alpha 2.
    An alpha channel that is not opaque is an error: the stored colours differ from the colours that a viewer shows.
    A grey picture that was saved in colour, its channels equal, becomes grey for a network of one channel; a grey
    picture is repeated as red, green and blue for a network of three.

    MONAI's reader of pictures gives ``spatial_shape`` as width and height even where rows come first, and MONAI Label
    scales the mask to it; here it becomes the size of the image.

    MONAI Deploy hands over pictures ``(H, W, C)`` and says that they have no channels, so MONAI's
    ``EnsureChannelFirst`` makes them ``(1, H, W, C)``; here their channels come first.

    Args:
        channels: number of channels without alpha.

    Example:
        >>> image = torch.tensor([[[7.0]], [[8.0]], [[9.0]], [[255.0]]])
        >>> DropAlpha()(image).flatten().tolist(), DropAlpha()(image[:3]).flatten().tolist()
        ([7.0, 8.0, 9.0], [7.0, 8.0, 9.0])
        >>> DropAlpha()(image[:1]).flatten().tolist(), DropAlpha(1)(image[[0, 0, 0]]).flatten().tolist()
        ([7.0, 7.0, 7.0], [7.0])
    """

    def __init__(self, channels: int = 3) -> None:
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.channels = channels

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return ``(channels, H, W)`` of an 8-bit picture ``(C, H, W)`` or ``(1, H, W, C)``.

        Raises:
            ValueError: another number of channels, or an alpha channel that is not 255 everywhere.
        """
        if _has_channels_last(image):
            image = image[0].movedim(-1, 0)
        if isinstance(image, MetaTensor) and image.ndim == _PICTURE:
            image.meta[MetaKeys.SPATIAL_SHAPE] = np.array(image.shape[1:])
        found = image.shape[0]
        if found == self.channels:
            return image
        where = name_item(image)
        if found == self.channels + 1 or (found in _WITH_ALPHA and self.channels in _COLOURS):
            if not bool((image[-1] == _OPAQUE).all()):
                raise ValueError(f"{where} has an alpha channel that is not opaque everywhere; flatten the file")
            image = image[:-1]
        if image.shape[0] == self.channels:
            return image
        if (image.shape[0], self.channels) == (1, 3):
            return torch.cat([image] * 3)
        if (image.shape[0], self.channels) == (3, 1) and bool((image == image[:1]).all()):
            return image[:1]
        raise ValueError(f"{where} has {found} channels, expected {self.channels}, or one more for alpha")


def _has_channels_last(image: torch.Tensor) -> bool:
    """Return whether a picture got a channel axis although it has one; a stack of slices has four axes, too."""
    if image.ndim != _CHANNELS_LAST or not isinstance(image, MetaTensor):
        return False
    return bool(is_no_channel(image.meta.get(MetaKeys.ORIGINAL_CHANNEL_DIM, 0)))


class DropAlphad(DictTransform, array=DropAlpha):
    """Dictionary version of :class:`DropAlpha`, with the same further arguments.

    Args:
        keys: items that hold images ``(C, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """
