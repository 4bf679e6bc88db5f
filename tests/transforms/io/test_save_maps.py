"""Maps of probabilities and doubt: values, names and the grid of pictures that viewers turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from PIL import Image, ImageOps

from pipeline.issues import InputError
from pipeline.transforms import SaveImageMaps, SaveImageMask


def load(path: Path) -> MetaTensor:
    return LoadImage(reader="PILReader", reverse_indexing=False, ensure_channel_first=True, image_only=True)(str(path))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_map_lies_as_the_mask_lies(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (6, 4)).save(path, exif=exif)
    image = load(path)
    marked = torch.zeros(1, *image.shape[1:])
    marked[0, 1, 2:] = 1
    marked = MetaTensor(marked, meta=image.meta)
    (mask,) = SaveImageMask(tmp_path / "out", format="tiff")(marked)
    (probability,) = SaveImageMaps(tmp_path / "out")(MetaTensor(marked * 0.75, meta=image.meta))
    assert (mask.name, probability.name) == ("a_pred.tif", "a_probability.tif")
    with Image.open(mask) as first, Image.open(probability) as second:
        assert first.size == second.size
        np.testing.assert_array_equal(np.asarray(second), np.asarray(first) * np.float32(0.75))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("kind", ["tiff", "png"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_viewers_show_a_mask_as_they_show_the_picture(suffix: str, kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    pixels = np.zeros((8, 16), np.uint8)
    pixels[1:4, 2:12] = 255
    Image.fromarray(pixels).save(path, exif=exif, **({"quality": 100} if suffix == ".jpg" else {}))
    image = load(path)
    marked = MetaTensor((image.as_tensor()[:1] > 127).float(), meta=image.meta)
    (mask,) = SaveImageMask(tmp_path / "out", format=kind)(marked)
    with Image.open(path) as first, Image.open(mask) as second:
        shown, found = (np.asarray(ImageOps.exif_transpose(one)) for one in (first, second))
    assert found.max() == 1
    np.testing.assert_array_equal(found == 1, shown > 127)


def test_names_of_several_labels(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    pred = MetaTensor(torch.full((3, 4, 6), 1 / 3), meta=load(tmp_path / "a.png").meta)
    save = SaveImageMaps(tmp_path / "out", names={1: "left lung"}, doubt=True)
    files = save(pred, "b/c")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in files] == [
        "b/c_probability_left_lung.tif",
        "b/c_probability_2.tif",
        "b/c_doubt.tif",
    ]
    assert np.asarray(Image.open(files[2])) == pytest.approx(1.0)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    meta = load(tmp_path / "a.png").meta
    with pytest.raises(ValueError, match=r"a\.png: expected a map on the image's grid \(4, 6\), got \(6, 4\); Invertd"):
        SaveImageMaps(tmp_path / "out")(MetaTensor(torch.ones(1, 6, 4), meta=meta))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write the maps of .*a\.png to .*file: .*--output_dir"):
        SaveImageMaps(tmp_path / "file")(MetaTensor(torch.ones(1, 4, 6), meta=meta))
