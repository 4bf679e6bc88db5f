"""Voxel sizes of an image, and the axes of its space, as transforms are told of them."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from monai.utils import ImageMetaKey

__all__ = ["name_item", "read_axis", "read_spacing"]


def read_spacing(tensor: torch.Tensor) -> tuple[float, ...]:
    """Return the voxel sizes of a tensor ``(C, *spatial)`` in mm, one for each spatial axis.

    Pictures and slice files say nothing of their size: MONAI's readers give them pixels of 1 mm.

    Raises:
        ValueError: the tensor has no meta data, or sizes that are not positive.

    Example:
        >>> read_spacing(MetaTensor(torch.zeros(1, 2, 2, 2), affine=torch.diag(torch.tensor([2.0, 1.0, 3.0, 1.0]))))
        (2.0, 1.0, 3.0)
    """
    if not isinstance(tensor, MetaTensor):
        raise ValueError(
            "lengths in mm need the voxel sizes of a MetaTensor, got a plain tensor: give lengths in voxels"
        )
    sizes = tuple(float(size) for size in tensor.pixdim)[: tensor.ndim - 1]
    if len(sizes) < tensor.ndim - 1 or not all(0 < size < float("inf") for size in sizes):
        raise ValueError(
            f"{name_item(tensor)} has voxels of {list(sizes)} mm, expected {tensor.ndim - 1} positive sizes"
        )
    return sizes


def read_axis(axis: int, spatial_dims: int) -> int:
    """Return a spatial axis as a number from 0.

    Args:
        axis: from 0, or from the last one with -1.
        spatial_dims: number of spatial axes.

    Raises:
        ValueError: there is no such axis, or no axis would be left.

    Example:
        >>> read_axis(-1, 3)
        2
    """
    if spatial_dims < 2 or not -spatial_dims <= axis < spatial_dims:
        raise ValueError(f"no slices along axis {axis} of an image with {spatial_dims} spatial axes")
    return axis % spatial_dims


def name_item(tensor: torch.Tensor) -> str:
    """Return how a message names a tensor: by the file of its image, if it is known."""
    name = tensor.meta.get(ImageMetaKey.FILENAME_OR_OBJ, "") if isinstance(tensor, MetaTensor) else ""
    return str(name) or "the image"
