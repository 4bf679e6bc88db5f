"""VolumeReader: every voxel of a DICOM series comes to its place and value, through check, convert and a bundle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch
from monai.transforms import LoadImage, LoadImaged
from scipy import ndimage

from pipeline.datasets import find_volumes, load_datalist
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.convert.conversion import convert_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.datasets.phantoms.dicom import Geometry, write_series
from pipeline.issues import InputError
from pipeline.transforms import SaveImageMask
from pipeline.transforms.io.volume_reader import VolumeReader

ROOT = Path(__file__).resolve().parents[3]
READER = "pipeline.transforms.io.volume_reader.VolumeReader"
SLICES, SIDE, STEP = 20, 40, 3.0
BLOCKS = ((3, 10, 12), (10, 20, 26), (16, 30, 18))  # slice, row, column of the centre of 3 x 5 x 5 voxels


def turn(axis: str, degrees: float) -> tuple[float, ...]:
    """Return the direction cosines of planes that are tilted about the axis of the rows (x) or of the columns (y)."""
    cos, sin = float(np.cos(np.deg2rad(degrees))), float(np.sin(np.deg2rad(degrees)))
    return (1.0, 0.0, 0.0, 0.0, cos, -sin) if axis == "x" else (cos, 0.0, -sin, 0.0, 1.0, 0.0)


def write_tilted(
    folder: Path,
    orientation: tuple[float, ...],
    *,
    way: tuple[float, float, float] = (0.0, 0.0, STEP),
    change: Callable[[Any, int], None] = lambda dataset, index: None,
) -> np.ndarray:
    """Write a series whose slices follow each other along ``way`` whatever their planes.

    Returns:
        The places (RAS, mm) of the centres of bright blocks.
    """
    voxels = np.random.default_rng(0).normal(100, 5, (SLICES, SIDE, SIDE)).astype(np.int16)
    for index, row, column in BLOCKS:
        voxels[index - 1 : index + 2, row - 2 : row + 3, column - 2 : column + 3] = 1000
    origin = np.array([-20.0, -25.0, 10.0])
    for index, path in enumerate(write_series(folder, voxels, Geometry(tuple(origin), orientation, (1, 1, STEP)), "P")):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient = [f"{x:.6f}" for x in origin + index * np.array(way)]
        dataset.ImageOrientationPatient = [f"{x:.6f}" for x in orientation]
        change(dataset, index)
        dataset.save_as(path)
    along, down = np.array(orientation[:3]), np.array(orientation[3:])
    places = [origin + index * np.array(way) + column * along + row * down for index, row, column in BLOCKS]
    return np.array(places) * (-1, -1, 1)


def measure_errors(voxels: np.ndarray, affine: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the distance in mm from each place to the nearest centre of a block of ones."""
    blocks, number = ndimage.label(voxels)
    centres = ndimage.center_of_mass(voxels, blocks, range(1, number + 1))
    found = nib.affines.apply_affine(affine, np.array(centres))
    return np.linalg.norm(places[:, None] - found[None], axis=-1).min(axis=1)


def predict(folder: Path, out: Path, bundle: str = "hippocampus_segresnet") -> nib.Nifti1Image:
    """Segment what is bright with the transforms of a bundle instead of its network, and return the mask's file."""
    config = json.loads((ROOT / "bundles" / bundle / "configs/inference.json").read_text())
    parser = ConfigParser(config | {"input": str(folder), "output_dir": str(out), "skip_largest_component": True})
    batch = next(iter(parser.get_parsed_content("dataloader")))
    bright = batch["image"] - 3
    batch["pred"] = torch.cat([-bright, bright, torch.full_like(bright, -9)], dim=1)
    for item in decollate_batch(batch):
        parser.get_parsed_content("postprocessing")(item)
    (path,) = out.rglob("*.nii.gz")
    return nib.load(path)


TILTS: dict[str, dict[str, Any]] = {
    "about x": {"orientation": turn("x", 20)},
    "about x, other way": {"orientation": turn("x", -20)},
    "about y": {"orientation": turn("y", 15)},
    "feet first": {"orientation": turn("x", 20), "way": (0.0, 0.0, -STEP)},
    "by positions only": {"orientation": (1.0, 0, 0, 0, 1.0, 0), "way": (0.5, -1.0, 2.5)},
    "small": {"orientation": turn("x", 0.5)},
    "none": {"orientation": turn("x", 20), "way": tuple(np.array([0, np.sin(0.34907), np.cos(0.34907)]) * STEP)},
}


@pytest.mark.parametrize("tilt", TILTS)
def test_landmarks_keep_their_places(tilt: str, tmp_path: Path) -> None:
    places = write_tilted(tmp_path / "data/series", **TILTS[tilt])
    manifest = read_layout("dicom", tmp_path / "data").manifest
    assert not check_manifest(manifest, tmp_path / "data", level="deep").errors()
    assert manifest.cases[0].facts["spacing"] == pytest.approx([1, 1, np.linalg.norm(TILTS[tilt].get("way", (STEP,)))])

    path = write_manifest(manifest, tmp_path / "manifest.json")
    (item,) = load_datalist(path, tmp_path / "data", "test")
    image = LoadImaged("image", reader=READER, ensure_channel_first=True)(item)["image"]
    assert measure_errors(image[0].numpy() > 500, image.affine.numpy(), places).max() < 0.01

    convert_manifest(manifest, tmp_path / "data", "decathlon", tmp_path / "out")
    volume = nib.load(next((tmp_path / "out/imagesTs").iterdir()))
    assert volume.get_data_dtype() == np.int16
    assert measure_errors(volume.get_fdata() > 500, volume.affine, places).max() < 0.01

    mask = predict(tmp_path / "data/series", tmp_path / "pred")
    assert mask.shape == (SIDE, SIDE, SLICES)
    # Half a voxel.
    assert measure_errors(mask.get_fdata() == 1, mask.affine, places).max() < 0.5


def test_a_tilted_volume_in_nifti_keeps_its_places(tmp_path: Path) -> None:
    places = write_tilted(tmp_path / "data/series", turn("x", 20))
    convert_manifest(read_layout("dicom", tmp_path / "data").manifest, tmp_path / "data", "decathlon", tmp_path / "out")
    mask = predict(tmp_path / "out/imagesTs", tmp_path / "pred", "hippocampus_unetr")
    assert measure_errors(mask.get_fdata() == 1, mask.affine, places).max() < 0.5


@pytest.mark.parametrize("bundle", ["hippocampus_segresnet", "hippocampus_unetr"])
def test_the_crf_gets_the_image_of_a_tilted_series(bundle: str, tmp_path: Path) -> None:
    places = write_tilted(tmp_path / "series", turn("x", 20))
    folder = ROOT / "bundles" / bundle / "configs"
    configs = [json.loads((folder / name).read_text()) for name in ("inference.json", "refine.json")]
    parser = ConfigParser({**configs[0], **configs[1], "input": str(tmp_path / "series"), "skip_crf": False})
    batch = next(iter(parser.get_parsed_content("dataloader")))
    (item,) = decollate_batch(batch | {"pred": torch.cat([batch["image"]] * 3, dim=1)})
    for transform in (*parser.get_parsed_content("to_probabilities"), parser.get_parsed_content("refine")[0]):
        item = transform(item)
    original = item["original"]
    assert original.shape == (1, SIDE, SIDE, SLICES)
    assert measure_errors(original[0].numpy() > 500, original.affine.numpy(), places).max() < 0.01


def test_a_config_with_another_reader_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    write_tilted(folder, turn("x", 20))
    image = LoadImage(ensure_channel_first=True)(str(folder))
    with pytest.raises(InputError, match=r"series is tilted, .* up to 19.8 mm from its place; give") as caught:
        SaveImageMask(tmp_path / "out")(MetaTensor(torch.ones(image.shape), meta=image.meta))
    assert "\n" not in str(caught.value)
    reader = json.loads("{" + str(caught.value).rpartition("give LoadImaged the ")[2] + "}")["reader"]
    image = LoadImage(reader=reader, ensure_channel_first=True)(str(folder))
    assert SaveImageMask(tmp_path / "out")(MetaTensor(torch.ones(image.shape), meta=image.meta))


def test_a_tilt_that_only_the_header_claims_gives_a_warning(tmp_path: Path) -> None:
    def claim(dataset: Any, index: int) -> None:
        dataset.GantryDetectorTilt = "-20"

    write_tilted(tmp_path / "data/a", (1.0, 0, 0, 0, 1.0, 0), change=claim)
    write_tilted(tmp_path / "data/b", turn("x", 20), change=claim)
    report = check_manifest(read_layout("dicom", tmp_path / "data").manifest, tmp_path / "data")
    (issue,) = [issue for issue in report.issues if issue.code == "slice-places"]
    assert (issue.severity, issue.record) == ("warning", "a")
    assert "claims a gantry tilt of 20 degrees, the places of the slices show none" in issue.message


def shift(dataset: Any, index: int) -> None:
    dataset.ImagePositionPatient = [-20, -25 + (0, 2)[index == 9], 10 + STEP * index]


def stretch(dataset: Any, index: int) -> None:
    dataset.ImagePositionPatient = [-20, -25, 10 + STEP * index + 0.2 * max(0, index - 10) * STEP]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shift, "shifted within their planes, up to 2 voxels off"),
        (stretch, "unevenly spaced, up to 0.8.* voxels off"),
    ],
)
def test_slices_that_no_affine_places_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    write_tilted(tmp_path / "data/series", (1.0, 0, 0, 0, 1.0, 0), change=change)
    report = check_manifest(read_layout("dicom", tmp_path / "data").manifest, tmp_path / "data")
    assert [issue.code for issue in report.errors()] == ["slice-places"]
    with pytest.raises(InputError, match=message + ": no affine places them all; resample") as caught:
        find_volumes(tmp_path / "data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("slopes", "intercepts"),
    [((1, 0.5), (0, 0.25)), ((0.5, 1), (0, 7)), ((1,), (0, -1024)), ((1, 1000), (0,)), ((2,), (-1024,))],
)
def test_each_slice_keeps_its_own_scale(slopes: tuple, intercepts: tuple, tmp_path: Path) -> None:
    truth = []

    def scale(dataset: Any, index: int) -> None:
        slope, intercept = slopes[index % len(slopes)], intercepts[index % len(intercepts)]
        dataset.RescaleSlope, dataset.RescaleIntercept = str(slope), str(intercept)
        truth.append(dataset.pixel_array * float(slope) + intercept)

    write_tilted(tmp_path / "data/series", (1.0, 0, 0, 0, 1.0, 0), change=scale)
    wanted = np.stack(truth).T
    (item,) = find_volumes(tmp_path / "data")
    np.testing.assert_array_equal(LoadImage(reader=VolumeReader)(item["image"]).numpy(), wanted.astype(np.float32))
    manifest = read_layout("dicom", tmp_path / "data").manifest
    assert not check_manifest(manifest, tmp_path / "data", level="deep").errors()
    convert_manifest(manifest, tmp_path / "data", "decathlon", tmp_path / "out")
    volume = nib.load(next((tmp_path / "out/imagesTs").iterdir()))
    np.testing.assert_array_equal(volume.get_fdata(), wanted)


@pytest.mark.parametrize("which", [range(SLICES), [4]])
def test_an_inverted_grey_scale_is_refused_and_the_hint_works(which: Any, tmp_path: Path) -> None:
    def invert(dataset: Any, index: int) -> None:
        if index in which:
            dataset.PixelData = (-1 - dataset.pixel_array).astype("<i2").tobytes()
            dataset.PhotometricInterpretation = "MONOCHROME1"

    write_tilted(tmp_path / "data/series", (1.0, 0, 0, 0, 1.0, 0), change=invert)
    manifest = read_layout("dicom", tmp_path / "data").manifest
    assert [issue.code for issue in check_manifest(manifest, tmp_path / "data").errors()] == ["image-mode"]
    with pytest.raises(InputError, match=r"grey scale is inverted \(MONOCHROME1\).*set MONOCHROME2") as caught:
        find_volumes(tmp_path / "data")
    assert "\n" not in str(caught.value)
    for path in (tmp_path / "data/series").iterdir():
        dataset = pydicom.dcmread(path)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            dataset.PhotometricInterpretation = "MONOCHROME2"
            dataset.PixelData = (-1 - dataset.pixel_array).astype("<i2").tobytes()
            dataset.save_as(path)
    (item,) = find_volumes(tmp_path / "data")
    image = LoadImage(reader=VolumeReader)(item["image"])
    assert all(image[column, row, index] == 1000 for index, row, column in BLOCKS)


def test_files_are_left_to_monai(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "a.nii.gz")
    path = str(tmp_path / "a.nii.gz")
    image, plain = (LoadImage(reader=reader, ensure_channel_first=True)(path) for reader in (READER, None))
    assert torch.equal(image, plain)
    assert torch.equal(image.affine, plain.affine)
    assert LoadImage(reader=READER, ensure_channel_first=True)([path, path]).shape == (2, 5, 6, 7)
    with pytest.raises(ValueError, match="holds 0 DICOM series, expected one"):
        LoadImage(reader=READER)(str(tmp_path))
