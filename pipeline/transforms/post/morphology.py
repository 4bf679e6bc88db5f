"""Opening and closing of index maps by a ball, in voxels or in mm."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from monai.transforms import Transform
from numpy.typing import NDArray

from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import read_axis, read_spacing
from pipeline.transforms.post.each_label import change_labels, check_applied_labels

Mask = NDArray[np.bool_]


class _Morphology(Transform):
    """Opening or closing of labels, in voxels or mm, of volumes or slices."""

    def __init__(
        self,
        radius: float,
        applied_labels: Iterable[int] | int | None = None,
        *,
        unit: Literal["voxel", "mm"] = "voxel",
        slice_axis: int | None = None,
    ) -> None:
        if not 0 <= radius < math.inf:
            raise ValueError(f"radius must be a number from 0, got {radius}")
        if unit not in ("voxel", "mm"):
            raise ValueError(f"unit must be 'voxel' or 'mm', got {unit!r}")
        # A voxel exactly at the radius belongs to the ball, although sums of voxel sizes are rounded.
        self.radius = float(radius) * (1 + 1e-9)
        self.applied_labels = check_applied_labels(applied_labels)
        self.unit = unit
        self.slice_axis = slice_axis

    def __call__(self, labels: torch.Tensor) -> torch.Tensor:
        """Change an index map ``(1, *spatial)``, label by label.

        Returns:
            A new index map with the dtype and meta data of the old one.

        Raises:
            ValueError: the map has several channels, there is no such axis, or the voxel size is unknown for mm.
        """
        dims = labels.ndim - 1
        sizes = read_spacing(labels) if self.unit == "mm" else (1.0,) * dims
        axis = None if self.slice_axis is None else read_axis(self.slice_axis, dims)

        def change(mask: torch.Tensor) -> torch.Tensor:
            array = mask.cpu().numpy()
            if axis is None:
                return torch.from_numpy(self._change(array, sizes))
            rest = (*sizes[:axis], *sizes[axis + 1 :])
            parts = [self._change(part, rest) for part in np.moveaxis(array, axis, 0)]
            return torch.from_numpy(np.stack(parts, axis=axis))

        return change_labels(labels, self.applied_labels, change)

    def _change(self, mask: Mask, sizes: Sequence[float]) -> Mask:
        """Return the mask opened or closed by a ball."""
        raise NotImplementedError


class MorphologicalOpening(_Morphology):
    """Remove the parts of each label into which a ball does not fit: thin parts and small spots.

    Opening is erosion, then dilation, both exact (Euclidean distances). Balls have their centres in the image. Labels
    are taken to continue outside the image, so they are not eroded at its border.

    Args:
        radius: radius of the ball; 0 changes nothing.
        applied_labels: labels to open, by default all labels of the map.
        unit: unit of the radius; "mm" uses the map's voxel sizes, so that the ball is round in space.
        slice_axis: spatial axis across slices that are opened separately, by a disc; by default the volume is opened.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> mask = torch.tensor([[[0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0]]])
        >>> MorphologicalOpening(1)(mask)[0, 1].tolist()
        [0, 1, 1, 1, 1, 0]
    """

    def _change(self, mask: Mask, sizes: Sequence[float]) -> Mask:
        from skimage.morphology import isotropic_dilation, isotropic_erosion

        box = _find_box(mask)
        # Distances need some background and some foreground.
        if box is None or self.radius == 0 or mask.all():
            return mask
        opened = np.zeros_like(mask)
        # The nearest background is at most one voxel outside the box.
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        eroded = isotropic_erosion(mask[around], self.radius, spacing=sizes)
        if eroded.any():
            opened[around] = isotropic_dilation(eroded, self.radius, spacing=sizes)
        return opened


class MorphologicalClosing(_Morphology):
    """Add to each label the background into which a ball does not fit: gaps, bays and holes.

    Closing is dilation, then erosion, both exact (Euclidean distances). Outside the image is background. Voxels of
    other labels do not change, and background that two labels would get stays background, so the order of the labels
    does not matter.

    Args:
        radius: radius of the ball; 0 changes nothing.
        applied_labels: labels to close, by default all labels of the map.
        unit: unit of the radius; "mm" uses the map's voxel sizes, so that the ball is round in space.
        slice_axis: spatial axis across slices that are closed separately, by a disc; by default the volume is closed.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> labels = torch.tensor([[[1, 1, 1, 1, 1], [1, 1, 0, 2, 1], [1, 1, 1, 1, 1]]])
        >>> MorphologicalClosing(1)(labels)[0, 1].tolist()
        [1, 1, 1, 2, 1]
    """

    def _change(self, mask: Mask, sizes: Sequence[float]) -> Mask:
        from skimage.morphology import isotropic_closing

        box = _find_box(mask)
        if box is None or self.radius == 0:
            return mask
        # Room for the dilated label and a layer of background, also outside the image.
        room = [(math.ceil(self.radius / size) + 1,) * 2 for size in sizes]
        closed = mask.copy()
        padded = isotropic_closing(np.pad(mask[box], room), self.radius, spacing=sizes)
        closed[box] = padded[tuple(slice(before, -after) for before, after in room)]
        return closed


def _find_box(mask: Mask) -> tuple[slice, ...] | None:
    """Return the smallest box that holds the mask, None if it is empty."""
    from scipy.ndimage import find_objects

    return next(iter(find_objects(mask.view(np.uint8))), None)


class MorphologicalOpeningd(DictTransform, array=MorphologicalOpening):
    """Dictionary version of :class:`MorphologicalOpening`, with the same further arguments.

    Args:
        keys: items that hold index maps ``(1, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """


class MorphologicalClosingd(DictTransform, array=MorphologicalClosing):
    """Dictionary version of :class:`MorphologicalClosing`, with the same further arguments.

    Args:
        keys: items that hold index maps ``(1, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """
