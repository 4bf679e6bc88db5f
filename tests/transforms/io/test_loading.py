"""LoadImaged and EnsureChannelFirstd apart give what LoadImaged gave alone, also to clients that load themselves."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from PIL import Image

from pipeline.datasets.phantoms.dicom import Geometry, write_series
from pipeline.transforms import DropAlphad
from pipeline.transforms.io.volume_reader import VolumeReader
from tests.volume_files import write_file

PICTURES: dict[str, Any] = {"reader": "PILReader", "reverse_indexing": False}
SHAPES = {"grey": (5, 7), "grey and alpha": (5, 7, 2), "colour": (5, 7, 3), "colour and alpha": (5, 7, 4)}


def write_picture(path: Path, shape: tuple[int, ...]) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    if shape[2:] in ((2,), (4,)):
        pixels[..., -1] = 255
    Image.fromarray(pixels).save(path)
    return path


def write_nifti(path: Path, shape: tuple[int, ...]) -> Path:
    voxels = np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, 2.0, 3.0, 1.0])), path)
    return path


def require_equal(first: MetaTensor, second: MetaTensor) -> None:
    assert torch.equal(first, second)
    assert first.dtype == second.dtype
    assert torch.equal(first.affine, second.affine)
    assert first.applied_operations == second.applied_operations
    assert list(first.meta) == list(second.meta)
    for key, value in first.meta.items():
        np.testing.assert_array_equal(value, second.meta[key], err_msg=str(key))


def load_both(path: Path, **options: Any) -> MetaTensor:
    together = LoadImaged("image", ensure_channel_first=True, **options)({"image": str(path)})["image"]
    apart = Compose([LoadImaged("image", **options), EnsureChannelFirstd("image")])({"image": str(path)})["image"]
    require_equal(together, apart)
    assert isinstance(apart, MetaTensor)
    return apart


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_pictures(shape: tuple[int, ...], tmp_path: Path) -> None:
    image = load_both(write_picture(tmp_path / "a.png", shape), **PICTURES)
    assert tuple(image.shape) == ((shape[2] if len(shape) > 2 else 1), 5, 7)


@pytest.mark.parametrize(("shape", "channels"), [((5, 6, 7), 1), ((5, 6, 7, 2), 2), ((5, 6, 7, 1), 1)])
def test_nifti(shape: tuple[int, ...], channels: int, tmp_path: Path) -> None:
    image = load_both(write_nifti(tmp_path / "a.nii.gz", shape), reader=VolumeReader)
    assert tuple(image.shape) == (channels, 5, 6, 7)


def test_a_series_and_files_of_itk(tmp_path: Path) -> None:
    write_series(tmp_path / "s", np.arange(120, dtype=np.int16).reshape(4, 5, 6), Geometry(), "P")
    assert tuple(load_both(tmp_path / "s", reader=VolumeReader).shape) == (1, 6, 5, 4)
    for ending in (".mha", ".nrrd"):
        file = write_file(tmp_path / f"a{ending}", np.ones((5, 6, 7), np.int16))
        assert tuple(load_both(file, reader=VolumeReader).shape) == (1, 5, 6, 7)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_pictures_from_deploy(shape: tuple[int, ...], channels: int, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", shape)
    chain = [LoadImaged("image", **PICTURES), EnsureChannelFirstd("image"), DropAlphad("image", channels)]
    if channels == 1 and shape[2:] in ((3,), (4,)):  # another picture: grey saved in colour
        pixels = np.array(Image.open(path))
        pixels[..., :3] = pixels[..., :1]
        Image.fromarray(pixels).save(path)
    expected = Compose(chain)({"image": str(path)})["image"]
    # MONAI Deploy drops the loader, adds an axis for the channels if there is none, and says that it is not one.
    pixels = np.asarray(Image.open(path), dtype=np.float32)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    given = MetaTensor.ensure_torch_and_prune_meta(torch.from_numpy(pixels), {"original_channel_dim": "no_channel"})
    image = Compose(chain[1:])({"image": given})["image"]
    assert torch.equal(image, expected)
    assert tuple(image.shape) == (channels, 5, 7)


def test_the_size_of_a_picture_is_that_of_its_rows_and_columns(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", SHAPES["colour"])
    load = Compose([LoadImaged("image", **PICTURES), EnsureChannelFirstd("image"), DropAlphad("image")])
    assert load({"image": str(path)})["image"].meta["spatial_shape"].tolist() == [5, 7]


def test_a_stack_of_one_slice_is_not_turned() -> None:
    stack = MetaTensor(torch.arange(35.0).reshape(1, 5, 7, 1))
    assert tuple(DropAlphad("image")({"image": stack})["image"].shape) == (3, 5, 7, 1)
