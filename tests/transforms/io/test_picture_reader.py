"""PictureReader: pixels and meta data agree about which axis is which."""

import numpy as np
import pytest
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from PIL import Image

READER = "pipeline.transforms.io.picture_reader.PictureReader"


@pytest.mark.parametrize(("channels", "shape"), [((), (1, 4, 6)), ((3,), (3, 4, 6))])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_rows_come_first_in_pixels_and_meta_data(channels, shape, suffix, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, *channels), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    load = Compose([LoadImaged("image", reader=READER), EnsureChannelFirstd("image")])
    image = load({"image": str(tmp_path / f"a{suffix}")})["image"]
    assert tuple(image.shape) == shape
    assert list(image.meta["spatial_shape"]) == [4, 6]
    np.testing.assert_array_equal(image, np.moveaxis(pixels, -1, 0) if channels else pixels[None])
