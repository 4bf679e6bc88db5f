"""LoadSource: the original image of a prediction, after any preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    DivisiblePadd,
    Invertd,
    LoadImage,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    Resized,
    Spacingd,
)
from PIL import Image

from pipeline.datasets.phantoms.dicom import Geometry, write_series
from pipeline.transforms import LoadImageStack, LoadImageStackd, LoadSource, LoadSourced, NeighbourSlicesToChannelsd

PICTURES: dict[str, Any] = {"reader": "PILReader", "reverse_indexing": False, "ensure_channel_first": True}


def write_slices(folder: Path, number: int = 4, channels: int = 3) -> list[Path]:
    folder.mkdir(parents=True)
    paths = []
    for index in range(number):
        pixels = np.random.default_rng(index).integers(0, 256, (21, 18, channels), dtype=np.uint8)
        paths.append(folder / f"{folder.name}_{index}.tif")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def write_volume(path: Path) -> np.ndarray:
    voxels = np.random.default_rng(0).normal(300, 90, (11, 9, 7)).astype(np.float32)
    affine = np.array([[0, -1.5, 0, 4], [2.0, 0, 0, -3], [0, 0, 3, 5], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return voxels


def predict(data: dict[str, Any], preprocessing: Compose) -> dict[str, Any]:
    """Return a case whose prediction is the first channel that a network would see, brought back to the file's grid."""
    case = preprocessing(data)
    case["pred"] = 2 * case["image"][:1]  # a MetaTensor, as what a network makes of one
    return Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False)(case)


def test_stack_of_slices(tmp_path: Path) -> None:
    paths = write_slices(tmp_path / "patient")
    preprocessing = Compose(
        [
            LoadImageStackd("image"),
            NormalizeIntensityd("image"),
            DivisiblePadd("image", k=[16, 16, 1], mode="edge"),
            NeighbourSlicesToChannelsd("image"),
        ]
    )
    case = predict({"image": paths}, preprocessing)
    original = LoadSourced("pred", "original", LoadImageStack())(case)["original"]
    expected = np.stack([np.asarray(Image.open(path)) for path in paths], axis=-1).transpose(2, 0, 1, 3)
    assert original.tolist() == expected.tolist()
    assert case["image"].shape[1:] != original.shape[1:]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures(suffix: str, channels: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (21, 18, channels), dtype=np.uint8).squeeze()
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels).save(path)
    preprocessing = Compose(
        [
            LoadImaged("image", **PICTURES),
            Resized("image", spatial_size=(8, 8)),
            NormalizeIntensityd("image"),
        ]
    )
    case = predict({"image": str(path)}, preprocessing)
    original = LoadSource(LoadImage(**PICTURES))(case["pred"])
    expected = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
    assert original.tolist() == expected.tolist()


def test_sixteen_bits_stay(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (6, 5)).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    pred = MetaTensor(torch.zeros(1, 6, 5), meta={"filename_or_obj": str(tmp_path / "a.png")})
    assert LoadSource(LoadImage(**PICTURES))(pred)[0].tolist() == pixels.tolist()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volumes_that_were_turned_and_resampled(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    voxels = write_volume(path)
    preprocessing = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=(1, 1, 1), mode="bilinear"),
            NormalizeIntensityd("image"),
        ]
    )
    case = predict({"image": str(path)}, preprocessing)
    original = LoadSource(LoadImage(ensure_channel_first=True))(case["pred"])
    assert original[0].tolist() == voxels.tolist()
    # What was not brought back lies elsewhere, even where the shapes are the same.
    turned = Compose(
        [LoadImaged("image", ensure_channel_first=True), Orientationd("image", axcodes="LPS", labels=None)]
    )({"image": str(path)})["image"]
    with pytest.raises(ValueError, match=r"the shape \(9, 11, 7\), its image \(11, 9, 7\); Invertd brings it back"):
        LoadSource(LoadImage(ensure_channel_first=True))(turned)
    moved = case["pred"].clone()
    moved.affine = moved.affine @ torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=moved.affine.dtype))
    with pytest.raises(ValueError, match=r"a.nii.*: the prediction lies up to \d+ mm away from the image"):
        LoadSource(LoadImage(ensure_channel_first=True))(moved)


def test_a_dicom_series(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, (4, 6, 5)).astype(np.int16)
    write_series(tmp_path / "s", voxels, Geometry(spacing=(0.8, 0.6, 2.5)), "P")
    loader = {"ensure_channel_first": True}
    preprocessing = Compose(
        [
            LoadImaged("image", **loader),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=(1, 1, 1)),
        ]
    )
    case = predict({"image": str(tmp_path / "s")}, preprocessing)
    original = LoadSource(LoadImage(**loader))(case["pred"])
    assert torch.equal(original, LoadImage(**loader)(str(tmp_path / "s")))
    assert sorted(original.flatten().tolist()) == sorted(voxels.flatten().tolist())


@pytest.fixture
def pred(tmp_path: Path) -> MetaTensor:
    """A prediction for a picture of 6 x 5 pixels."""
    Image.new("RGB", (5, 6)).save(tmp_path / "a.png")
    return MetaTensor(torch.zeros(1, 6, 5), meta={"filename_or_obj": str(tmp_path / "a.png")})


def refuse(pred: torch.Tensor, **loader: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the tests below look at the text
        LoadSource(LoadImage(**{**PICTURES, **loader}))(pred)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_prediction_on_another_grid(pred: MetaTensor, tmp_path: Path) -> None:
    text = refuse(MetaTensor(torch.zeros(1, 6, 4), meta=pred.meta))
    assert (
        text == f"{tmp_path / 'a.png'}: the prediction has the shape (6, 4), its image (6, 5); Invertd brings it back"
    )
    text = refuse(pred, reverse_indexing=True)
    assert text.endswith("the shape (6, 5), its image (5, 6); use the loading arguments of the image")


def test_a_file_that_is_gone(pred: MetaTensor, tmp_path: Path) -> None:
    (tmp_path / "a.png").unlink()
    text = refuse(pred)
    assert text.startswith(f"{tmp_path / 'a.png'} is missing")
    assert text.endswith("leave out the CRF")


def test_one_slice_that_is_gone(tmp_path: Path) -> None:
    paths = write_slices(tmp_path / "patient")
    volume = LoadImageStack()(paths)
    paths[2].unlink()
    with pytest.raises(ValueError, match=r"patient_2\.tif is missing"):
        LoadSource(LoadImageStack())(volume)


def test_a_file_that_was_damaged_since(pred: MetaTensor, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    assert refuse(pred).startswith(f"{tmp_path / 'a.png'} cannot be loaded again for the CRF: ")


@pytest.mark.parametrize("kind", ["plain", "without a name"])
def test_arrays_from_memory(kind: str) -> None:
    memory = torch.zeros(1, 6, 5)
    text = refuse(memory if kind == "plain" else MetaTensor(memory))
    assert text.startswith("the prediction does not name the file of its image")
    assert text.endswith("leave out the CRF")


def test_dictionary(pred: MetaTensor) -> None:
    load = LoadSourced("pred", "original", LoadImage(**PICTURES))
    data = {"pred": pred, "image": "kept"}
    loaded = load(data)
    assert loaded["original"].shape == (3, 6, 5)
    assert loaded["image"] == "kept"
    assert loaded["pred"] is pred
    assert set(data) == {"pred", "image"}
    with pytest.raises(KeyError):
        load({})
    assert LoadSourced("pred", "original", LoadImage(**PICTURES), allow_missing_keys=True)({}) == {}
    with pytest.raises(ValueError, match=r"LoadSourced loads the image of one key, got \['pred', 'label'\]"):
        LoadSourced(["pred", "label"], "original", LoadImage(**PICTURES))
