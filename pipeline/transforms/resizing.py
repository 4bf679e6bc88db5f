"""MONAI's ``Resized`` with torch's anti-aliasing."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Resize as MonaiResize
from monai.transforms import Resized as MonaiResized
from monai.utils import convert_to_tensor
from torch.nn.functional import interpolate

# What torch can filter: pictures, by these modes.
_FILTERED, _PICTURE = ("bilinear", "bicubic"), 3
# Pixels from which on the order of the axes matters.
_LARGE = 2**20


class Resize(MonaiResize):
    """The array transform of `Resized`."""

    def __call__(
        self,
        img: torch.Tensor,
        mode: str | None = None,
        align_corners: bool | None = None,
        anti_aliasing: bool | None = None,
        anti_aliasing_sigma: Sequence[float] | float | None = None,
        dtype: Any = None,
        lazy: bool | None = None,
    ) -> torch.Tensor:
        """Return the image (C, H, W) in another size; see `Resized`."""
        mode = self.mode if mode is None else mode
        smooth = self.anti_aliasing if anti_aliasing is None else anti_aliasing
        sigma = self.anti_aliasing_sigma if anti_aliasing_sigma is None else anti_aliasing_sigma
        is_lazy = self.lazy if lazy is None else lazy
        is_filtered = smooth and sigma is None and mode in _FILTERED and img.ndim == _PICTURE
        if not is_filtered or is_lazy:
            return super().__call__(img, mode, align_corners, anti_aliasing, anti_aliasing_sigma, dtype, lazy)
        # MONAI's, without its filter and on one channel, keeps the book for the inverse.
        book = super().__call__(img[:1], mode, align_corners, anti_aliasing=False, dtype=dtype)
        size = tuple(book.shape[1:])
        if size == tuple(img.shape[1:]):
            return super().__call__(img, mode, align_corners, anti_aliasing=False, dtype=dtype)
        pixels = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
        align = self.align_corners if align_corners is None else align_corners
        resized = _filter(pixels, size, mode=mode, align_corners=align).to(book.dtype)
        return MetaTensor(resized).copy_meta_from(book) if isinstance(book, MetaTensor) else resized


def _filter(image: torch.Tensor, size: tuple[int, ...], **options: Any) -> torch.Tensor:
    channels, height, width = image.shape
    by_pixel = image.permute(1, 2, 0)
    if height * width < _LARGE or not by_pixel.is_contiguous():
        return interpolate(image[None], size, antialias=True, **options)[0]
    # Readers give pictures as (H, W, C) in memory. Along the columns first, where a step is a whole row of memory, a
    # large one takes little more than half of the time that torch's own order takes.
    rows = by_pixel.reshape(1, 1, height, width * channels)
    low = interpolate(rows, (size[0], width * channels), antialias=True, **options)
    low = low.view(1, size[0], width, channels).permute(0, 3, 1, 2)
    return interpolate(low, size, antialias=True, **options)[0]


class Resized(MonaiResized):
    """Resize pictures as MONAI's ``Resized``, with torch's anti-aliasing instead of a Gaussian over the whole image.

    With ``anti_aliasing`` MONAI 1.6.1 smooths the image at its full size first, which takes most of the time and memory
    of a prediction on a large photograph. Torch's ``interpolate(antialias=True)`` filters while it resizes, with a
    triangle (bilinear) or cubic kernel that is as wide as the step between two new pixels, as Pillow does. Other
    modes, volumes, an ``anti_aliasing_sigma`` of one's own, and the inverse are MONAI's.

    Args:
        args: of MONAI's ``Resized``.
        kwargs: of MONAI's ``Resized``.

    Example:
        >>> stripes = torch.tensor([0.0, 100.0]).repeat(1, 8, 4)
        >>> Resized("image", [4, 4], mode="bilinear", anti_aliasing=True)({"image": stripes})["image"].mean().item()
        50.0
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resizer = Resize(self.resizer.spatial_size, self.resizer.size_mode, lazy=self.resizer.lazy)
