"""2-D transforms applied to every slice of a volume."""

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils.type_conversion import convert_to_dst_type

from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import read_axis, read_spacing


class EachSlice(Transform):
    """Apply an array transform to every slice of a volume separately.

    Clean-up of a whole volume (largest component, small parts, holes) connects neighbouring slices. If slices are far
    apart, or a hole in a slice is open to the next slice, cleaning each slice separately can be better.

    Args:
        transform: takes and returns a slice ``(C, *spatial)`` on the same grid.
        axis: spatial axis across the slices, 2 for a stack ``(C, H, W, D)``.

    Example:
        >>> from monai.transforms import FillHoles
        >>> ring = torch.ones(1, 3, 3, 2)
        >>> ring[0, 1, 1, 0] = 0
        >>> FillHoles()(ring.clone()).sum().item(), EachSlice(FillHoles(), axis=2)(ring).sum().item()
        (17.0, 18.0)
    """

    def __init__(self, transform: Callable[[Any], Any], axis: int) -> None:
        self.transform = transform
        self.axis = axis

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """Transform the slices of a volume ``(C, *spatial)``.

        Returns:
            The transformed slices as a new volume with the same meta data.

        Raises:
            ValueError: there is no such axis, or the transform changes the grid of a slice.
        """
        dim = read_axis(self.axis, volume.ndim - 1) + 1
        slices = [self.transform(part) for part in cut_slices(volume, self.axis)]
        plain = [torch.as_tensor(part).as_subclass(torch.Tensor) for part in slices]
        grid = (*volume.shape[1:dim], *volume.shape[dim + 1 :])
        if any(part.shape[1:] != grid for part in plain):
            raise ValueError(f"a transform of slices must keep their grid {grid}, got {tuple(plain[0].shape[1:])}")
        stacked = torch.stack(plain, dim=dim)
        return convert_to_dst_type(stacked, dst=volume, dtype=stacked.dtype)[0]


def cut_slices(volume: torch.Tensor, axis: int) -> list[torch.Tensor]:
    """Return copies of the slices ``(C, *spatial without axis)``; those of a MetaTensor keep their pixel sizes.

    Raises:
        ValueError: there is no such axis.
    """
    axis = read_axis(axis, volume.ndim - 1)
    if not isinstance(volume, MetaTensor):
        return [part.clone() for part in volume.unbind(axis + 1)]
    sizes = read_spacing(volume)
    # A 2-D affine has only the axes of the slice, so it cannot say where the slice lies.
    affine = torch.diag(torch.tensor([*sizes[:axis], *sizes[axis + 1 :], *[1.0] * (4 - len(sizes) + 1)][:4]))
    parts = volume.as_tensor().unbind(axis + 1)
    return [MetaTensor(part.clone(), affine=affine, meta={**volume.meta}) for part in parts]


class EachSliced(DictTransform, array=EachSlice):
    """Dictionary version of :class:`EachSlice`, with the same further arguments.

    Args:
        keys: items that hold volumes ``(C, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """
