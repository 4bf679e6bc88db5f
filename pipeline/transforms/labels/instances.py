"""Conversion of instance ids to a mask of separate objects, and back."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Transform
from monai.utils.type_conversion import convert_to_dst_type

from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import name_item

Ids = npt.NDArray[np.int32]

MOST_INSTANCES = 65_535  # largest id in a 16-bit mask file


class SeparateInstances(Transform):
    """Turn instance ids into foreground (1) and background (0), with background between touching instances.

    A network with one foreground channel can separate cells only if there is background between them, so the border
    between touching cells is background in the target (Ronneberger et al. 2015). Outlines next to background do not
    move. :class:`LabelInstances` with ``grow=width`` is the inverse.

    Args:
        width: pixels of an instance with another one at most this many steps away, diagonal steps included, become
            background: touching instances end up ``2 * width`` pixels apart. 0 changes nothing.

    Raises:
        ValueError: ``width`` is negative.

    Example:
        >>> SeparateInstances()(torch.tensor([[[0, 3, 3, 5, 5, 0, 7]]])).tolist()
        [[[0, 1, 0, 0, 1, 0, 1]]]
    """

    def __init__(self, width: int = 1) -> None:
        if width < 0:
            raise ValueError(f"width must be at least 0 pixels, got {width}")
        self.width = width

    def __call__(self, instances: torch.Tensor) -> torch.Tensor:
        """Separate the instances.

        Args:
            instances: ids ``(1, *spatial)``, 0 for background.

        Returns:
            ``(1, *spatial)`` of 0 and 1 in the dtype of the ids; meta data is kept.

        Raises:
            ValueError: there is more than one channel, or a value that is not an id.
        """
        foreground = separate(read_instances(instances), self.width)
        return _like(instances, foreground > 0, instances.dtype)


class LabelInstances(Transform):
    """Number the connected parts of a binary mask: instance ids 1 to n, in the order of their first pixels.

    Args:
        min_size: instances with fewer pixels are removed; filled holes count, grown pixels do not.
        fill_holes: add the background inside an instance to it; instances inside a hole stay.
        grow: width in pixels of the border that :class:`SeparateInstances` removed. Instances grow back by it where
            another one lies across the gap, and never into each other.
        connectivity: number of axes along which connected neighbours may differ: 1 for edges only (4 neighbours in
            2-D), 2 for corners too (8 neighbours).

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> mask = torch.tensor([[[1.0, 1, 0, 0, 1, 1, 0]]])
        >>> LabelInstances()(mask).tolist(), LabelInstances(grow=1)(mask).tolist()
        ([[[1, 1, 0, 0, 2, 2, 0]]], [[[1, 1, 1, 2, 2, 2, 0]]])
    """

    def __init__(self, min_size: int = 0, fill_holes: bool = False, grow: int = 0, connectivity: int = 1) -> None:
        if min(min_size, grow) < 0 or connectivity < 1:
            raise ValueError(
                f"min_size and grow must be at least 0 and connectivity at least 1, got {min_size}, {grow} and "
                f"{connectivity}"
            )
        self.min_size = min_size
        self.fill_holes = fill_holes
        self.grow = grow
        self.connectivity = connectivity

    def __call__(self, mask: torch.Tensor) -> torch.Tensor:
        """Number the instances.

        Args:
            mask: ``(1, *spatial)`` of 0 and 1.

        Returns:
            Ids ``(1, *spatial)`` as int32, 0 for background; meta data is kept.

        Raises:
            ValueError: the mask has more than one channel, other values, or more parts than 16-bit ids.
        """
        from skimage.measure import label

        ids = read_instances(mask)
        if ids.max() > 1:
            raise ValueError(f"{name_item(mask, 'mask')} has the value {ids.max()}, expected a binary mask of 0 and 1")
        ids = label(ids, connectivity=min(self.connectivity, ids.ndim)).astype(np.int32)
        if self.fill_holes:
            ids = _fill_holes(ids, self.connectivity)
        ids = _drop_small(ids, self.min_size)
        if ids.max() > MOST_INSTANCES:
            raise ValueError(
                f"{name_item(mask, 'mask')} has {ids.max()} separate parts: 16-bit ids end at {MOST_INSTANCES}"
            )
        return _like(mask, _grow_into_gaps(ids, self.grow), torch.int32)


def read_instances(instances: torch.Tensor) -> Ids:
    """Return instance ids ``(1, *spatial)`` as an int32 array ``spatial``.

    Raises:
        ValueError: there is more than one channel, no pixel, or a negative, fractional or NaN value.
    """
    if instances.ndim < 2 or instances.shape[0] != 1 or instances.numel() == 0:
        raise ValueError(f"{name_item(instances, 'mask')} has shape {tuple(instances.shape)}, expected (1, *spatial)")
    values = instances.detach().cpu().numpy()[0]
    with np.errstate(invalid="ignore"):
        ids = values.astype(np.int32)
    wrong = (ids < 0) | (ids != values)
    if wrong.any():
        raise ValueError(
            f"{name_item(instances, 'mask')} has the value {values[wrong][0]}, expected whole numbers from 0"
        )
    return ids


def separate(ids: Ids, width: int) -> Ids:
    """Set the pixels of every instance that are at most ``width`` steps from another instance to 0."""
    return np.where(_near_two(ids, width), 0, ids)


def _near_two(ids: Ids, reach: int) -> npt.NDArray[np.bool_]:
    """Return which pixels have two different instances in the square of ``reach`` pixels around them."""
    from scipy.ndimage import maximum_filter, minimum_filter

    side = 2 * reach + 1
    largest = maximum_filter(ids, side, mode="constant", cval=0)
    none = np.iinfo(ids.dtype).max
    smallest = minimum_filter(np.where(ids == 0, none, ids), side, mode="constant", cval=none)
    return (largest > 0) & (largest != smallest)


def _fill_holes(ids: Ids, connectivity: int) -> Ids:
    from scipy.ndimage import binary_fill_holes, find_objects, generate_binary_structure

    # background is connected through corners if instances are not
    around = generate_binary_structure(ids.ndim, max(ids.ndim + 1 - connectivity, 1))
    for number, box in enumerate(find_objects(ids), 1):
        part = ids[box]
        part[binary_fill_holes(part == number, structure=around) & (part == 0)] = number
    return ids


def _drop_small(ids: Ids, min_size: int) -> Ids:
    sizes = np.bincount(ids.ravel())
    kept = sizes >= max(min_size, 1)
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return numbers[ids]


def _grow_into_gaps(ids: Ids, width: int) -> Ids:
    if width == 0:
        return ids
    from scipy.ndimage import maximum_filter, minimum_filter
    from skimage.segmentation import expand_labels

    side = 2 * width + 1
    closed = minimum_filter(maximum_filter(ids > 0, side, mode="constant", cval=0), side, mode="constant", cval=1)
    gaps = closed & _near_two(ids, 2 * width)  # closing also fills the bays of one instance
    grown = expand_labels(ids, distance=width * ids.ndim**0.5)  # the diagonal of a square of this width
    return np.where(gaps, grown, ids)


def _like(source: torch.Tensor, values: npt.NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    """Return an array ``spatial`` as a tensor ``(1, *spatial)`` with the source's device and meta data."""
    return convert_to_dst_type(torch.from_numpy(values)[None], dst=source, dtype=dtype)[0]


class SeparateInstancesd(DictTransform, array=SeparateInstances):
    """Dictionary version of :class:`SeparateInstances`, with the same further arguments.

    Args:
        keys: items that hold instance ids ``(1, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """


class LabelInstancesd(DictTransform, array=LabelInstances):
    """Dictionary version of :class:`LabelInstances`, with the same further arguments.

    Args:
        keys: items that hold binary masks ``(1, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """
