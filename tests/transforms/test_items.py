"""Files, voxel sizes and axes as transforms read them from an item."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from pipeline.transforms.items import name_item, read_axis, read_spacing


def test_voxel_sizes_are_those_of_the_tensors_axes() -> None:
    turned = torch.tensor([[0.0, 3, 0, 5], [2, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    assert read_spacing(MetaTensor(torch.zeros(2, 3, 4, 5), affine=turned)) == (2, 3, 4)
    assert read_spacing(MetaTensor(torch.zeros(1, 3, 4), affine=turned)) == (2, 3)
    oblique = torch.eye(4)
    oblique[:2, :2] = 2 * torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    assert read_spacing(MetaTensor(torch.zeros(1, 3, 4, 5), affine=oblique)) == pytest.approx((2, 2, 1))


def test_invalid_sizes() -> None:
    with pytest.raises(ValueError, match="got a plain tensor: give lengths in voxels"):
        read_spacing(torch.zeros(1, 2, 2))
    unknown = torch.diag(torch.tensor([1.0, torch.nan, 1, 1]))
    with pytest.raises(ValueError, match=r"^image a\.nii has voxels of \[.*nan.*\] mm, expected 2 positive sizes$"):
        read_spacing(MetaTensor(torch.zeros(1, 2, 2), affine=unknown, meta={"filename_or_obj": "a.nii"}))


@pytest.mark.parametrize(("axis", "dims", "expected"), [(0, 3, 0), (2, 3, 2), (-1, 3, 2), (-3, 3, 0), (1, 2, 1)])
def test_axes(axis: int, dims: int, expected: int) -> None:
    assert read_axis(axis, dims) == expected


@pytest.mark.parametrize(("axis", "dims"), [(3, 3), (-4, 3), (2, 2), (0, 1)])
def test_axes_that_are_not_there(axis: int, dims: int) -> None:
    with pytest.raises(ValueError, match=f"no slices along axis {axis} of an image with {dims} spatial axes"):
        read_axis(axis, dims)


def test_names() -> None:
    assert name_item(torch.zeros(1)) == name_item(MetaTensor(torch.zeros(1))) == "image"
    assert name_item(MetaTensor(torch.zeros(1), meta={"filename_or_obj": "a.nii"})) == "image a.nii"
    assert name_item(torch.zeros(1), "mask") == "mask"
