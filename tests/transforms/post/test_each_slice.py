"""EachSlice: 2-D transforms on every slice of a volume."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import FillHoles, KeepLargestConnectedComponent

from pipeline.transforms import EachLabel, EachSlice, EachSliced


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_equals_a_loop_over_slices(axis: int) -> None:
    volume = (torch.rand(1, 6, 7, 8, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    cleaned = EachSlice(KeepLargestConnectedComponent(1), axis)(volume)
    dim = axis % 3 + 1
    for index in range(volume.shape[dim]):
        part = KeepLargestConnectedComponent(1)(volume.select(dim, index).clone())
        assert torch.equal(cleaned.select(dim, index), part)
    assert not torch.equal(cleaned, KeepLargestConnectedComponent(1)(volume.clone()))


def test_a_ring_open_to_its_neighbours_has_a_hole_in_its_slice() -> None:
    volume = torch.zeros(1, 5, 5, 3)
    volume[0, 1:4, 1:4, 1] = 1
    volume[0, 2, 2, 1] = 0
    assert FillHoles()(volume.clone())[0, 2, 2, 1] == 0
    assert EachSlice(FillHoles(), 2)(volume)[0, 2, 2, 1] == 1


def test_transforms_can_be_nested() -> None:
    volume = torch.zeros(1, 3, 5, 2)  # a ring in one slice, with another label in its middle
    volume[0, :, :, 0] = 1
    volume[0, 1, 1:4, 0] = torch.tensor([0.0, 2, 0])
    assert torch.equal(EachLabel(FillHoles())(volume), volume), "open to the other slice"
    filled = EachSlice(EachLabel(FillHoles()), 2)(volume)
    assert filled[0, 1, :, 0].tolist() == [1, 1, 2, 1, 1]
    assert filled[..., 1].sum() == 0


def test_slices_know_their_pixel_sizes_and_the_volume_keeps_its_place() -> None:
    affine = torch.tensor([[0.0, 3, 0, 5], [2, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    volume = MetaTensor(torch.rand(1, 2, 3, 4), affine=affine, meta={"filename_or_obj": "a.nii"})
    seen = []

    def look(part: MetaTensor) -> MetaTensor:
        seen.append((tuple(part.shape), tuple(part.pixdim.tolist()), part.meta["filename_or_obj"]))
        part[:] = 0
        return part

    before = volume.clone()
    changed = EachSlice(look, 1)(volume)
    assert seen == [((1, 2, 4), (2.0, 4.0), "a.nii")] * 3
    assert torch.equal(changed.affine, volume.affine)
    assert changed.sum() == 0
    assert torch.equal(volume, before)


def test_results_of_other_channels_and_kinds() -> None:
    volume = torch.rand(2, 3, 4, 5)
    largest = EachSlice(lambda part: part.argmax(0, keepdim=True), 2)(volume)
    assert torch.equal(largest, volume.argmax(0, keepdim=True))
    assert largest.dtype == torch.int64


def test_wrong_axes_and_grids() -> None:
    for axis in (3, -4):
        with pytest.raises(ValueError, match=f"no slices along axis {axis} of an image with 3 spatial axes"):
            EachSlice(FillHoles(), axis)(torch.zeros(1, 2, 2, 2))
    with pytest.raises(ValueError, match=r"must keep their grid \(2, 3\), got \(2, 2\)"):
        EachSlice(lambda part: part[..., :2], 2)(torch.zeros(1, 2, 3, 4))


def test_dictionary() -> None:
    volume = torch.ones(1, 3, 3, 2)
    volume[0, 1, 1, 0] = 0
    data = {"pred": volume, "case_id": "a"}
    filled = EachSliced(["pred", "none"], FillHoles(), axis=2, allow_missing_keys=True)(data)
    assert filled["pred"].min() == 1
    assert filled["case_id"] == "a"
    assert volume[0, 1, 1, 0] == 0
