"""A chain of transforms that leaves the items of a cache as they are, and copies crops instead of volumes."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose


class ComposeFromCache(Compose):
    """``Compose`` for a ``CacheDataset`` with ``copy_cache=False`` that cuts crops out of its items.

    Steps may write into what they get. ``RandCoarseDropoutd`` writes into the pixels; those that flip, turn or crop
    write into the meta data (``pixdim``, the list of applied operations). An item that a random step leaves as it is,
    and a crop, which is a view, still are the cached item, so it would be changed for the rest of a training. MONAI's
    remedy, ``copy_cache=True``, copies whole volumes of which a crop is used. Here, if the first random step is a
    crop, its result is copied, and before it the meta data alone; if it is another step, the item is copied as MONAI
    does.

    Args:
        args: as for ``Compose``.
        kwargs: as for ``Compose``.

    Example:
        >>> from monai.data import CacheDataset
        >>> from monai.transforms import RandCoarseDropoutd, RandSpatialCropd, ScaleIntensityd
        >>> steps = [
        ...     ScaleIntensityd("image"),
        ...     RandSpatialCropd("image", roi_size=[4, 4]),
        ...     RandCoarseDropoutd("image", holes=1, spatial_size=2, fill_value=7, prob=1),
        ... ]
        >>> items = [{"image": torch.eye(4)[None]}]
        >>> dataset = CacheDataset(items, ComposeFromCache(steps), copy_cache=False, progress=False)
        >>> dataset[0]["image"].max().item(), dataset._cache[0]["image"].max().item()
        (7.0, 1.0)
    """

    def __call__(
        self, input_: Any, start: int = 0, end: int | None = None, threading: bool = False, lazy: bool | None = None
    ) -> Any:
        """Apply the steps from ``start`` to before ``end``; without ``end`` the input is not changed."""
        if end is not None:  # its results fill the cache
            return super().__call__(input_, start, end, threading, lazy)
        if any(hasattr(step, "cropper") for step in self.transforms[start : start + 1]):
            crop = super().__call__(_map_values(_share, input_), start, start + 1, threading, lazy)
            return super().__call__(_map_values(_copy, crop), start + 1, None, threading, lazy)
        return super().__call__(deepcopy(input_), start, None, threading, lazy)


def _map_values(function: Callable[[Any], Any], data: Any) -> Any:
    """Apply a function to the values of nested dictionaries and lists."""
    if isinstance(data, dict):
        return {key: _map_values(function, value) for key, value in data.items()}
    if isinstance(data, list):
        return [_map_values(function, value) for value in data]
    return function(data)


def _share(value: Any) -> Any:
    """Return a tensor with the same memory and a copy of its meta data."""
    if not isinstance(value, MetaTensor):
        return value
    shared = value.as_tensor().as_subclass(MetaTensor)
    shared.__dict__ = deepcopy(value.__dict__)
    return shared


def _copy(value: Any) -> Any:
    """Return a copy of what a tensor or array shows; ``deepcopy`` would copy all the memory of which it is a view."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    return value.copy() if isinstance(value, np.ndarray) else value
