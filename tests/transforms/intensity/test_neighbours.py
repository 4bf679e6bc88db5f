"""NeighbourSlicesToChannels: compared with loops over slices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCrop, Flip

from pipeline.transforms import NeighbourSlicesToChannels, NeighbourSlicesToChannelsd


def stack_with_loops(volume, before, after):
    channels, height, width, depth = volume.shape
    stacked = torch.empty((before + 1 + after) * channels, height, width, depth)
    for k in range(depth):
        for n, offset in enumerate(range(-before, after + 1)):
            for c in range(channels):
                stacked[n * channels + c, :, :, k] = volume[c, :, :, min(max(k + offset, 0), depth - 1)]
    return stacked


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(0, 3), st.integers(0, 3))
def test_equals_loops(channels, height, width, depth, before, after):
    volume = torch.arange(channels * height * width * depth, dtype=torch.float32).reshape(
        channels, height, width, depth
    )
    stacked = NeighbourSlicesToChannels(before, after)(volume)
    assert torch.equal(stacked, stack_with_loops(volume, before, after))


def test_order_of_the_channels():
    volume = torch.tensor([[10.0, 11.0, 12.0], [20.0, 21.0, 22.0]])[:, None, None]
    assert NeighbourSlicesToChannels()(volume)[:, 0, 0, 1].tolist() == [10, 20, 11, 21, 12, 22]


def test_one_slice_is_its_own_neighbour():
    assert (
        NeighbourSlicesToChannels(2, 1)(torch.full((1, 2, 2, 1), 5.0)).tolist()
        == torch.full((4, 2, 2, 1), 5.0).tolist()
    )


def test_meta_data_is_kept_and_not_shared():
    volume = Flip(0)(MetaTensor(torch.rand(1, 4, 4, 3), meta={"filename_or_obj": "a"}))
    stacked = NeighbourSlicesToChannels()(volume)
    assert isinstance(stacked, MetaTensor)
    assert stacked.meta["filename_or_obj"] == "a"
    assert torch.equal(stacked.affine, volume.affine)
    assert len(stacked.applied_operations) == 1
    cropped = CenterSpatialCrop([2, 2, 1])(stacked)
    stacked.meta["filename_or_obj"] = "b"
    assert len(cropped.applied_operations) == 2
    assert len(volume.applied_operations) == 1
    assert volume.meta["filename_or_obj"] == "a"


def test_plain_tensors_stay_plain():
    assert type(NeighbourSlicesToChannels()(torch.zeros(1, 2, 2, 2))) is torch.Tensor


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 1, 4, 4, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected a volume \(C, H, W, D\), got shape"):
        NeighbourSlicesToChannels()(torch.zeros(shape))


@pytest.mark.parametrize("arguments", [(-1, 0), (0, -1)])
def test_negative_counts_are_refused(arguments):
    with pytest.raises(ValueError, match="must not be negative"):
        NeighbourSlicesToChannels(*arguments)


def test_dictionary():
    data = {"image": torch.rand(1, 2, 2, 3), "label": torch.zeros(1, 2, 2, 3)}
    result = NeighbourSlicesToChannelsd(["image", "missing"], before=0, after=1, allow_missing_keys=True)(data)
    assert torch.equal(result["image"], stack_with_loops(data["image"], 0, 1))
    assert result["label"] is data["label"]
    assert data["image"].shape == (1, 2, 2, 3)
    with pytest.raises(KeyError):
        NeighbourSlicesToChannelsd("missing")(data)
