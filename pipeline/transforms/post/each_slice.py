"""Transforms of pictures done on every slice of a volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils.type_conversion import convert_to_dst_type

from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import read_axis, read_spacing

__all__ = ["EachSlice", "EachSliced"]


class EachSlice(Transform):
    """Do an array transform on every slice of a volume, each on its own.

    Clean-up of a volume (largest component, small parts, holes) looks at the whole of it: two spots in neighbouring
    slices are one part. Where slices lie far apart, or a hole of a slice is open to its neighbours, it can be better
    done slice by slice.

    Args:
        transform: takes and returns ``(C, *spatial)`` without the axis, on the same grid.
        axis: spatial axis along which the slices lie, 2 for a stack ``(C, H, W, D)``.

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
            The transformed slices as one volume, with the volume's meta data; the volume stays as it is.

        Raises:
            ValueError: there is no such axis, or the transform changes the grid of a slice.
        """
        dim = read_axis(self.axis, volume.ndim - 1) + 1
        slices = [self.transform(part) for part in cut_slices(volume, self.axis)]
        plain = [part.as_tensor() if isinstance(part, MetaTensor) else torch.as_tensor(part) for part in slices]
        grid = (*volume.shape[1:dim], *volume.shape[dim + 1 :])
        if any(part.shape[1:] != grid for part in plain):
            raise ValueError(f"a transform of slices must keep their grid {grid}, got {tuple(plain[0].shape[1:])}")
        stacked = torch.stack(plain, dim=dim)
        return convert_to_dst_type(stacked, dst=volume, dtype=stacked.dtype)[0]


def cut_slices(volume: torch.Tensor, axis: int) -> list[torch.Tensor]:
    """Return copies of the slices ``(C, *spatial without axis)``; those of a MetaTensor know their pixel sizes.

    Raises:
        ValueError: there is no such axis.
    """
    axis = read_axis(axis, volume.ndim - 1)
    if not isinstance(volume, MetaTensor):
        return [part.clone() for part in volume.unbind(axis + 1)]
    sizes = read_spacing(volume)
    # Where a slice lies is not known to a picture's affine, which has the axes of the slice alone.
    affine = torch.diag(torch.tensor([*sizes[:axis], *sizes[axis + 1 :], *[1.0] * (4 - len(sizes) + 1)][:4]))
    return [
        MetaTensor(part.clone(), affine=affine, meta={**volume.meta}) for part in volume.as_tensor().unbind(axis + 1)
    ]


class EachSliced(DictTransform, array=EachSlice):
    """Dictionary version of :class:`EachSlice`, with the same further arguments.

    Args:
        keys: items that hold volumes ``(C, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """
