"""Resized: MONAI's, with the anti-aliasing of torch and Pillow."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd
from monai.transforms import Resized as MonaiResized
from PIL import Image

from pipeline.transforms import Resized

SMOOTH = {"mode": "bilinear", "anti_aliasing": True}


@pytest.fixture
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 90, 121)).astype(np.float32)
    return MetaTensor(torch.as_tensor(pixels), affine=torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("size", [(32, 48), (89, 30), (32, 160), (120, 160)])
def test_same_as_pillow(photo, size):
    result = Resized("image", size, **SMOOTH)({"image": photo})["image"]
    for ours, plane in zip(result, photo, strict=True):
        expected = Image.fromarray(np.asarray(plane)).resize(size[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), atol=0.01)  # of 255
    affine = MonaiResized("image", size, **SMOOTH)({"image": photo})["image"].affine
    np.testing.assert_array_equal(result.affine, affine)


def test_the_inverse_is_monais(photo):
    chain, monais = (Compose([cls("image", (32, 48), **SMOOTH)]) for cls in (Resized, MonaiResized))
    small = chain({"image": photo})
    results = []
    for before in (chain, monais):
        case = before({"image": photo})
        case["pred"] = MetaTensor(small["image"].as_tensor().clone())
        invert = Invertd("pred", before, orig_keys="image", nearest_interp=False)
        results.append(invert(case)["pred"])
    torch.testing.assert_close(results[0].as_tensor(), results[1].as_tensor())
    assert results[0].shape == photo.shape


def test_the_given_image_is_kept(photo):
    before = photo.clone()
    case = {"image": photo}
    same = Resized("image", (90, 121), **SMOOTH)(case)["image"]
    Resized("image", (32, 48), **SMOOTH)(case)
    torch.testing.assert_close(photo.as_tensor(), before.as_tensor())
    torch.testing.assert_close(same.as_tensor(), before.as_tensor())


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 40, 50), {"mode": "nearest", "anti_aliasing": True}),
        ((1, 40, 50), {"mode": "bilinear"}),
        ((1, 40, 50), {"mode": "bilinear", "anti_aliasing": True, "anti_aliasing_sigma": 2.0}),
        ((1, 20, 24, 28), {"mode": "trilinear", "anti_aliasing": True}),
        ((1, 20, 24, 28), {"mode": "bilinear", "anti_aliasing": True}),
    ],
)
def test_all_else_is_monais(shape, options):
    image = torch.as_tensor(np.random.default_rng(1).normal(size=shape), dtype=torch.float32)
    size = (16,) * (len(shape) - 1)
    ours, theirs = (cls("image", size, **options)({"image": image})["image"] for cls in (Resized, MonaiResized))
    torch.testing.assert_close(ours.as_tensor(), theirs.as_tensor())


def test_uint8_and_arrays_without_meta_data(photo):
    expected = Resized("image", (32, 48), **SMOOTH)({"image": photo})["image"].as_tensor()
    for image in (torch.as_tensor(photo.as_tensor(), dtype=torch.uint8), np.asarray(photo)):
        result = Resized("image", (32, 48), **SMOOTH)({"image": image})["image"]
        torch.testing.assert_close(result.as_tensor(), expected)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(60, 80), (60, 1600), (1300, 80)])
def test_a_large_photograph_as_readers_give_it(mode, size):
    pixels = np.random.default_rng(0).integers(0, 256, (1100, 1000, 3)).astype(np.float32)
    image = torch.as_tensor(pixels).permute(2, 0, 1)  # (H, W, C) in memory
    result = Resized("image", size, mode=mode, anti_aliasing=True)({"image": MetaTensor(image)})["image"]
    expected = torch.nn.functional.interpolate(image[None], size, mode=mode, antialias=True)[0]
    torch.testing.assert_close(result.as_tensor(), expected, rtol=0, atol=0.001)  # of 255
