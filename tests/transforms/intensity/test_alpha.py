"""DropAlpha: removes an opaque alpha channel, rejects any other."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Flip, LoadImaged
from PIL import Image

from pipeline.transforms import DropAlpha, DropAlphad


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_opaque_alpha_is_dropped_and_other_images_stay(dtype):
    image = torch.arange(12, dtype=dtype).reshape(3, 2, 2)
    opaque = torch.cat([image, torch.full((1, 2, 2), 255, dtype=dtype)])
    for given in (image, opaque):
        result = DropAlpha()(given)
        assert torch.equal(result, image)
        assert result.dtype == dtype
    grey = torch.stack([image[0], opaque[3]])
    assert torch.equal(DropAlpha(1)(grey), image[:1])


def test_one_pixel_that_is_not_opaque_is_refused():
    image = torch.full((4, 3, 3), 255.0)
    image[3, 1, 1] = 254
    with pytest.raises(ValueError, match="alpha channel that is not opaque everywhere"):
        DropAlpha()(image)


@pytest.mark.parametrize(("found", "channels"), [(5, 3), (3, 4), (1, 2), (4, 2)])
def test_other_numbers_of_channels_are_refused(found, channels):
    image = MetaTensor(torch.zeros(found, 2, 2), meta={"filename_or_obj": "p/a.png"})
    with pytest.raises(ValueError, match=rf"image p/a\.png has {found} channels, expected {channels}, or one more"):
        DropAlpha(channels)(image)


@pytest.mark.parametrize("alpha", [0, 1])
def test_grey_becomes_colour_and_equal_colours_grey(alpha):
    grey = MetaTensor(torch.arange(4.0).reshape(1, 2, 2), meta={"filename_or_obj": "a.png"})
    opaque = [torch.full((1, 2, 2), 255.0)] * alpha
    colour = DropAlpha(3)(torch.cat([grey, *opaque]))
    assert torch.equal(colour, grey[[0, 0, 0]])
    assert torch.equal(DropAlpha(1)(torch.cat([colour, *opaque])), grey)
    assert colour.meta["filename_or_obj"] == "a.png"
    colour[1, 0, 0] += 1
    with pytest.raises(ValueError, match=f"has {3 + alpha} channels, expected 1"):
        DropAlpha(1)(torch.cat([colour, *opaque]))


def test_channels_must_be_positive():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        DropAlpha(0)


def test_meta_data_and_history_are_kept():
    image = Flip(0)(MetaTensor(torch.full((4, 2, 2), 255.0), meta={"filename_or_obj": "a"}))
    result = DropAlpha()(image)
    assert result.meta["filename_or_obj"] == "a"
    assert [step["class"] for step in result.applied_operations] == ["Flip"]


def test_files_of_both_kinds_come_out_alike(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "rgb.png")
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "rgba.png")
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), DropAlphad("image")])
    plain, alpha = (load({"image": tmp_path / name})["image"] for name in ("rgb.png", "rgba.png"))
    assert torch.equal(torch.as_tensor(plain), torch.as_tensor(alpha))
    assert plain.shape == (3, 9, 6)


def test_dictionary():
    data = {"image": torch.full((4, 1, 1), 255.0), "other": 3}
    assert DropAlphad("image")(data)["image"].shape == (3, 1, 1)
    assert data["image"].shape == (4, 1, 1)
    assert DropAlphad(["image", "label"], allow_missing_keys=True)(data)["other"] == 3
    with pytest.raises(KeyError):
        DropAlphad("label")(data)
