"""``pipeline predict``: right grids and sizes for pictures, stacks and volumes, as plain MONAI predicts them."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.phantoms.dicom import Geometry, write_series
from tests.prediction.conftest import Command


def write_picture(path: Path, size: tuple[int, int] = (60, 40), *, bright: bool = True) -> Path:
    """Write a dark picture with a bright block of 20 x 10 pixels, of which the network finds every one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), 20, np.uint8)
    if bright:
        pixels[5:15, 30:50] = 240
    Image.fromarray(pixels).save(path)
    return path


def read_sizes(folder: Path) -> list[dict[str, str]]:
    with open(folder / "sizes.csv") as stream:
        return list(csv.DictReader(stream))


def find_box(mask: np.ndarray) -> tuple[list[int], list[int]]:
    places = np.argwhere(mask)
    return places.min(axis=0).tolist(), places.max(axis=0).tolist()


def test_pictures_from_a_folder_and_a_file(pictures: Path, command: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "in/a.png")
    write_picture(tmp_path / "in/dark.png", bright=False)
    single = write_picture(tmp_path / "other/b.jpg", (64, 48))
    code, out, err = command(pictures, tmp_path / "in", single, single, "-o", "out", "--overlay", "--figure")
    assert (code, err) == (0, "")
    first, second, third = out.splitlines()
    assert first.startswith("3 predicted, ")
    assert first.endswith("s each, 1 with an empty mask, 0 skipped")
    assert second == "masks in out, sizes in out/sizes.csv"
    assert third == "look first at dark (doubt 1.00)"  # of three cases one; nothing was found in it
    mask = np.asarray(Image.open("out/a_pred.png"))
    assert mask.shape == (40, 60)
    low, high = find_box(mask == 255)
    # The network sees 256 x 256 pixels, so a border may move by half a pixel of the picture.
    assert np.abs(np.subtract([*low, *high], [5, 30, 14, 49])).max() <= 1
    assert np.asarray(Image.open("out/b_pred.png")).shape == (48, 64)
    kinds = ("pred", "overlay", "figure")
    names = {f"{case}_{kind}.png" for case in ("a", "b", "dark") for kind in kinds}
    assert {path.name for path in Path("out").iterdir()} == {"sizes.csv", *names}
    rows = {row["case"]: row for row in read_sizes(tmp_path / "out")}
    assert rows["a"]["pixels"] == str(int((mask == 255).sum()))
    assert {
        key: rows["dark"][key] for key in ("label", "name", "pixels", "area_mm2", "volume_ml", "empty", "mask")
    } == {
        "label": "1",
        "name": "lesion",
        "pixels": "0",
        "area_mm2": "",
        "volume_ml": "",
        "empty": "true",
        "mask": "dark_pred.png",
    }
    assert float(rows["dark"]["doubt"]) == 1
    assert float(rows["a"]["doubt"]) < 0.1
    assert float(rows["a"]["seconds"]) > 0


def test_the_masks_are_those_of_plain_monai(pictures: Path, command: Command, tmp_path: Path) -> None:
    from monai.bundle import run

    write_picture(tmp_path / "in/a.png")
    config = str(pictures / "configs/inference.json")
    run(config_file=config, bundle_root=str(pictures), input=str(tmp_path / "in"), output_dir="plain")
    assert command(pictures, tmp_path / "in", "-o", "out")[0] == 0
    assert Path("out/a_pred.png").read_bytes() == Path("plain/a_pred.png").read_bytes()
    # Overrides and more configs reach the same config.
    assert command(pictures, "in", "-o", "other", "--config_file", "tta.json", "--set", "label_values=[0,7]")[0] == 0
    assert set(np.unique(np.asarray(Image.open("other/a_pred.png")))) == {0, 7}


def test_slices_that_a_shell_lists_are_one_stack(slices: Path, command: Command, tmp_path: Path) -> None:
    for number in (1, 2, 10):
        write_picture(tmp_path / f"p1/p1_{number}.tif", bright=number == 2)
    Image.new("L", (60, 40)).save(tmp_path / "p1/p1_2_mask.tif")
    files = sorted((tmp_path / "p1").iterdir())
    options = ("--set", "skip_largest_component=true", "--format", "png", "--doubt", "--probabilities")
    code, out, err = command(slices, *files, "-o", "out", *options)
    assert (code, err) == (0, "")
    assert out.startswith("1 predicted")
    written = {path.name for path in Path("out/p1").iterdir()}
    assert written == {
        *(f"p1_{number}_pred.png" for number in (1, 2, 10)),
        *(f"p1_{number}_{kind}.tif" for number in (1, 2, 10) for kind in ("probability", "doubt")),
    }
    (row,) = read_sizes(tmp_path / "out")
    assert (row["case"], row["name"], row["mask"]) == ("p1", "tumour", "p1")
    masks = {number: np.asarray(Image.open(f"out/p1/p1_{number}_pred.png")) for number in (1, 2, 10)}
    assert row["pixels"] == str(sum(int((mask > 0).sum()) for mask in masks.values()))
    probability = np.asarray(Image.open("out/p1/p1_2_probability.tif"))
    assert probability.dtype == np.float32
    np.testing.assert_array_equal(probability > 0.5, masks[2] == 255)


def write_nifti(path: Path, shape: tuple[int, int, int] = (20, 24, 16)) -> np.ndarray:
    """Write an oblique, anisotropic volume with a bright block, and return its affine."""
    voxels = np.full(shape, 100, np.int16)
    voxels[0, 0, 0] = 0
    voxels[4:10, 5:12, 3:9] = 1000
    affine = np.array([[0, -1.2, 0.1, 7], [1.5, 0, 0, -3], [0, 0.2, 2.5, 11], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return affine


def test_volumes_with_places_sizes_and_maps(volumes: Path, command: Command, tmp_path: Path) -> None:
    affine = write_nifti(tmp_path / "scan.nii.gz")
    pytest.importorskip("itk")
    code, _, err = command(volumes, "scan.nii.gz", "-o", "out", "--probabilities", "--doubt", "--figure")
    assert (code, err) == (0, "")
    mask = nib.load("out/scan_pred.nii.gz")
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
    found = np.asarray(mask.dataobj)
    low, high = find_box(found == 2)
    assert np.abs(np.subtract([*low, *high], [4, 5, 3, 9, 11, 8])).max() <= 1
    rows = {row["label"]: row for row in read_sizes(tmp_path / "out")}
    assert [(row["name"], row["empty"]) for row in rows.values()] == [("anterior", "false"), ("posterior", "false")]
    voxel = abs(np.linalg.det(affine[:3, :3])) / 1000
    assert float(rows["2"]["volume_ml"]) == pytest.approx((found == 2).sum() * voxel, rel=1e-4)
    assert (rows["1"]["pixels"], rows["1"]["volume_ml"], rows["2"]["area_mm2"]) == ("0", "0", "")
    for name in ("probability_anterior", "probability_posterior", "doubt"):
        image = nib.load(f"out/scan_{name}.nii.gz")
        assert image.get_data_dtype() == np.float32
        np.testing.assert_allclose(image.affine, affine, atol=1e-5)
        assert 0 <= image.get_fdata().min() <= image.get_fdata().max() <= 1
    posterior = nib.load("out/scan_probability_posterior.nii.gz").get_fdata()
    assert (posterior[found == 2] > 0.3).all()
    anterior = nib.load("out/scan_probability_anterior.nii.gz").get_fdata()
    every = np.stack([1 - anterior - posterior, anterior, posterior]).clip(1e-12, 1)
    doubt = nib.load("out/scan_doubt.nii.gz").get_fdata()
    np.testing.assert_allclose(doubt, -(every * np.log(every)).sum(axis=0) / np.log(3), atol=1e-4)
    assert doubt.max() > 0.1
    likeliest = every.argmax(axis=0) == 2
    second = 1 - 2 * posterior[likeliest].sum() / (posterior.sum() + likeliest.sum())
    assert float(rows["2"]["doubt"]) == pytest.approx((1 + second) / 2, abs=1e-3)  # nothing is found of label 1
    assert Path("out/scan_figure.png").is_file()


def test_a_series_as_segmentation(volumes: Path, command: Command, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    highdicom = pytest.importorskip("highdicom", reason="the extra dicom is not installed")
    voxels = np.full((16, 20, 24), 100, np.int16)
    voxels[0, 0, 0] = 0
    voxels[3:9, 4:10, 5:12] = 1000
    geometry = Geometry((3.0, 4.0, 5.0), (1.0, 0.0, 0.0, 0.0, 0.8, 0.6), (1.0, 1.0, 2.0))  # type: ignore[arg-type]
    files = write_series(tmp_path / "series", voxels, geometry, "p_1")
    # One file stands for its series.
    code, out, err = command(volumes, files[0], files[3], "-o", "out", "--format", "seg")
    assert (code, err) == (0, "")
    assert out.startswith("1 predicted")
    segmentation = highdicom.seg.segread("out/series_pred.dcm")
    assert [item.SegmentLabel for item in segmentation.SegmentSequence] == ["anterior", "posterior"]
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    found = segmentation.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)[..., 1]
    low, high = find_box(found)
    assert np.abs(np.subtract([*low, *high], [3, 4, 5, 8, 9, 11])).max() <= 1
    (row,) = (row for row in read_sizes(tmp_path / "out") if row["label"] == "2")
    assert float(row["volume_ml"]) == pytest.approx(found.sum() * 2.0 / 1000, rel=1e-3)
    # A second prediction of the same folder takes no segmentation for an image.
    Path("out/series_pred.dcm").rename(tmp_path / "series/series_pred.dcm")
    assert command(volumes, "series", "-o", "again")[0] == 0
    assert Path("again/series_pred.nii.gz").is_file()
