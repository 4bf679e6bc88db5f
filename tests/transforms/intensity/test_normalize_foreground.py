"""NormalizeForeground: compared with numpy, by hand, and by its invariances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Flip

from pipeline.transforms import NormalizeForeground, NormalizeForegroundd


def make_volume(seed=0, channels=3, shape=(9, 8, 5)):
    """A bright body in dark, noisy air; every channel on another scale."""
    generator = np.random.default_rng(seed)
    volume = generator.uniform(0, 0.5, (channels, *shape))
    volume[:, 2:7, 2:6] += generator.uniform(50, 100, (channels, 5, 4, shape[2]))
    return torch.as_tensor(volume * np.array([1.0, 7.0, 0.01])[:channels, None, None, None], dtype=torch.float32)


def normalize_with_numpy(image, upper, threshold):
    result = np.zeros(image.shape)
    for c, channel in enumerate(image.numpy().astype(np.float64)):
        high = np.percentile(channel, upper)
        clipped = np.minimum(channel, high)
        tissue = [value for value in clipped.ravel() if value > threshold * high]
        if tissue:
            result[c] = (clipped - np.mean(tissue)) / np.std(tissue)
    return torch.as_tensor(result, dtype=torch.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([90.0, 99.5, 100.0]), st.sampled_from([0.0, 0.05, 0.3]))
def test_equals_numpy(seed, upper, threshold):
    image = make_volume(seed)
    expected = normalize_with_numpy(image, upper, threshold)
    torch.testing.assert_close(NormalizeForeground(upper, threshold)(image), expected, rtol=1e-3, atol=1e-3)


def test_hand_table():
    # threshold 0.25 of the maximum 16: foreground 8, 12, 16, mean 12, variance 32/3
    result = NormalizeForeground(upper=100, threshold=0.25)(torch.tensor([[0.0, 4.0, 8.0, 12.0, 16.0]]))
    scale = (32 / 3) ** 0.5
    torch.testing.assert_close(result, torch.tensor([[-12.0, -8.0, -4.0, 0.0, 4.0]]) / scale)


def test_bright_voxels_are_clipped():
    image = torch.full((1, 1000), 10.0)
    image[0, :500] = 20
    image[0, 0] = 1e6
    result = NormalizeForeground(upper=99.5)(image)
    torch.testing.assert_close(result.abs(), torch.ones_like(image), rtol=1e-2, atol=0)


def test_foreground_has_mean_0_and_deviation_1_in_every_channel():
    image = make_volume()
    result = NormalizeForeground(upper=100)(image)
    tissue = result[:, 2:7, 2:6].flatten(1)
    torch.testing.assert_close(tissue.mean(dim=1), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(tissue.std(dim=1, correction=0), torch.ones(3), rtol=1e-4, atol=0)
    assert (result[:, 0] < -3).all()


@pytest.mark.parametrize("factor", [1e-3, 0.5, 1000.0])
def test_scale_does_not_matter(factor):
    image = make_volume()
    torch.testing.assert_close(
        NormalizeForeground()(image * factor), NormalizeForeground()(image), rtol=1e-3, atol=1e-3
    )


def test_offset_does_not_matter_where_all_is_foreground():
    image = make_volume(channels=1)[:, 2:7, 2:6]
    torch.testing.assert_close(NormalizeForeground()(image + 30), NormalizeForeground()(image), rtol=1e-3, atol=1e-3)


def test_channels_do_not_mix():
    image = make_volume()
    together = NormalizeForeground()(image)
    for channel in range(3):
        assert torch.equal(NormalizeForeground()(image[channel : channel + 1])[0], together[channel])


def test_empty_channel_becomes_0():
    image = make_volume()
    image[1] = 0
    result = NormalizeForeground()(image)
    assert not result[1].any()
    assert result[0].any()
    assert not NormalizeForeground()(torch.full((1, 4, 4), -3.0)).any()


@pytest.mark.parametrize("value", [1e-3, 0.1, 0.3, 123.456, 5e4])
@pytest.mark.parametrize("count", [7, 1000, 99999])
def test_constant_foreground_is_not_blown_up_by_rounding(value, count):
    image = torch.zeros(1, count + 5)
    image[0, :count] = value
    result = NormalizeForeground()(image)
    torch.testing.assert_close(result[0, :count], torch.zeros(count), rtol=0, atol=1e-5)
    torch.testing.assert_close(result[0, count:], -torch.ones(5))


def test_whole_numbers_are_not_truncated():
    image = torch.tensor([[0, 0, 8, 12]], dtype=torch.uint8)
    result = NormalizeForeground(upper=100)(image)
    assert result.dtype == torch.float32
    assert result.tolist() == [[-5.0, -5.0, -1.0, 1.0]]


def test_input_and_meta_data_are_kept():
    image = Flip(0)(MetaTensor(make_volume(), meta={"filename_or_obj": "a"}))
    before = image.as_tensor().clone()
    result = NormalizeForeground()(image)
    assert isinstance(result, MetaTensor)
    assert result.meta["filename_or_obj"] == "a"
    assert [step["class"] for step in result.applied_operations] == ["Flip"]
    assert torch.equal(image.as_tensor(), before)


@pytest.mark.parametrize("arguments", [{"upper": 0}, {"upper": 100.5}, {"threshold": -0.1}, {"threshold": 1}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must"):
        NormalizeForeground(**arguments)


def test_dictionary():
    data = {"image": make_volume(), "label": torch.ones(1, 2)}
    before = data["image"].clone()
    result = NormalizeForegroundd(["image", "missing"], upper=90, threshold=0.3, allow_missing_keys=True)(data)
    assert torch.equal(result["image"], NormalizeForeground(90, 0.3)(before))
    assert torch.equal(data["image"], before)
    assert result["label"] is data["label"]
    with pytest.raises(KeyError):
        NormalizeForegroundd("missing")(data)
