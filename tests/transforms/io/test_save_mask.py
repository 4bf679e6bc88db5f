"""SaveImageMask on files: grid, position, format and names of masks; rejected masks; overlays and figures."""

import errno
import os
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from monai.data import MetaTensor
from monai.transforms import (
    AsDiscreted,
    Compose,
    DivisiblePadd,
    Invertd,
    LoadImage,
    LoadImaged,
    Orientationd,
    Resized,
    Spacingd,
)
from PIL import Image

from pipeline.datasets.phantoms.dicom import Geometry, write_series
from pipeline.issues import InputError
from pipeline.pictures.figures import PALETTE
from pipeline.transforms import SaveImageMask, SaveImageMaskd
from pipeline.transforms.io.volume_reader import VolumeReader

PICTURE = LoadImaged("image", reader="PILReader", reverse_indexing=False, ensure_channel_first=True)
VOLUME = LoadImaged("image", ensure_channel_first=True)
# A rotation, unlike voxel sizes, and a flip: all that an affine may hold.
AFFINE = np.array([[0, -1.5, 0.0, 20], [-2, 0, 0, 30], [0, 0, 3, -40], [0, 0, 0, 1.0]])


def write_picture(path: Path, shape: tuple[int, ...] = (9, 13, 3), dtype: type = np.uint8) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    Image.fromarray(pixels).save(path)
    return pixels


def write_volume(path: Path, shape: tuple[int, ...] = (9, 7, 5), kind: type = nib.Nifti1Image) -> nib.Nifti1Image:
    voxels = np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)
    image = kind(voxels, AFFINE)
    image.set_sform(AFFINE, 2)
    image.set_qform(AFFINE, 1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"of a patient"
    nib.save(image, path)
    return image


def make_mask(image: MetaTensor, labels: int = 1) -> MetaTensor:
    """Return a mask on the image's grid, with its meta data."""
    pixels = np.random.default_rng(1).integers(0, labels, image.shape[1:], endpoint=True)
    pixels.flat[-1] = labels
    return MetaTensor(torch.as_tensor(pixels[None]), meta=image.meta)


def load_mask(path: Path, labels: int = 1) -> MetaTensor:
    load = VOLUME if path.is_dir() or ".nii" in path.name else PICTURE
    return make_mask(load({"image": str(path)})["image"], labels)


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- pictures


@pytest.mark.parametrize(
    ("suffix", "saved", "kind"),
    [
        (".png", ".png", "PNG"),
        (".jpg", ".png", "PNG"),
        (".JPEG", ".png", "PNG"),
        (".bmp", ".png", "PNG"),
        (".tif", ".tif", "TIFF"),
        (".TIFF", ".tiff", "TIFF"),
    ],
)
@pytest.mark.parametrize("shape", [(9, 13, 3), (9, 13)])
def test_a_mask_has_the_pictures_grid_and_a_format_that_keeps_it(shape, suffix, saved, kind, tmp_path) -> None:
    write_picture(tmp_path / f"a b{suffix}", shape)
    mask = load_mask(tmp_path / f"a b{suffix}", labels=2)
    assert SaveImageMask(tmp_path / "out")(mask) == [tmp_path / f"out/a b_pred{saved}"]
    with Image.open(tmp_path / f"out/a b_pred{saved}") as image:
        assert (image.format, image.mode, image.size) == (kind, "L", (13, 9))
        assert np.array_equal(np.asarray(image), mask[0].numpy())


def test_a_prediction_comes_back_from_the_networks_grid(tmp_path: Path) -> None:
    """What a bundle does: resize, predict, invert, threshold, save; a corner of the picture stays that corner."""
    write_picture(tmp_path / "a.jpg", (40, 64, 3))
    before = Compose([PICTURE, Resized("image", [32, 32])])
    item = before({"image": str(tmp_path / "a.jpg"), "case_id": "a"})
    item["pred"] = MetaTensor(torch.zeros(1, 32, 32), meta=item["image"].meta)
    item["pred"][:, :8, :16] = 1
    after = [
        Invertd("pred", before, orig_keys="image", nearest_interp=False),
        AsDiscreted("pred", threshold=0.5),
        SaveImageMaskd("pred", tmp_path / "out", values=[0, 255]),
    ]
    Compose(after)(item)
    mask = read_pixels(tmp_path / "out/a_pred.png")
    expected = np.zeros((40, 64), np.uint8)
    expected[:10, :32] = 255
    assert mask.shape == expected.shape
    assert (mask != expected).mean() < 0.03
    assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_instances_keep_their_numbers_in_16_bits(suffix: str, tmp_path: Path) -> None:
    write_picture(tmp_path / f"a{suffix}", (30, 40))
    mask = load_mask(tmp_path / f"a{suffix}", labels=999)
    SaveImageMask(tmp_path / "out", dtype="uint16")(mask)
    found = read_pixels(tmp_path / f"out/a_pred{suffix}")
    assert found.max() == 999
    assert np.array_equal(found, mask[0].numpy())
    if suffix == ".tif":
        assert tifffile.imread(tmp_path / "out/a_pred.tif").dtype == np.uint16


@pytest.mark.parametrize("values", [[0, 100, 255], {"1": 100, "2": 255}, {0: 0, 1: 100, 2: 255}])
def test_grey_values_of_labels(values, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    mask = load_mask(tmp_path / "a.png", labels=2)
    (path,) = SaveImageMask(tmp_path / "out", postfix="tumour", values=values)(mask)
    assert path.name == "a_tumour.png"
    assert np.array_equal(read_pixels(path), np.array([0, 100, 255])[mask[0].numpy()])


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.nii.gz"])
def test_values_of_labels_that_need_16_bits(name: str, tmp_path: Path) -> None:
    write_volume(tmp_path / name) if name.endswith("gz") else write_picture(tmp_path / name)
    mask = load_mask(tmp_path / name, labels=2)
    (path,) = SaveImageMask(tmp_path / "out", values=[0, 205, 850])(mask)
    found = np.asarray(nib.load(path).dataobj) if name.endswith("gz") else read_pixels(path)
    assert found.dtype == np.uint16
    assert np.array_equal(found, np.array([0, 205, 850])[mask[0].numpy()])


def test_the_case_names_its_files(tmp_path: Path) -> None:
    for name in ("x/a.png", "y/a.png"):
        write_picture(tmp_path / name)
    save = SaveImageMaskd(["pred", "absent"], tmp_path / "out", allow_missing_keys=True)
    for name in ("x/a", "y/a"):
        data = {"pred": load_mask(tmp_path / f"{name}.png"), "case_id": name}
        assert save(data) == data
    assert list_files(tmp_path / "out") == ["x/a_pred.png", "y/a_pred.png"]
    with pytest.raises(KeyError):
        SaveImageMaskd("absent", tmp_path / "out")({})


def test_two_pictures_that_would_share_a_mask(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        write_picture(tmp_path / name)
    save = SaveImageMask(tmp_path / "out")
    for _ in range(2):  # the same picture again is no clash
        save(load_mask(tmp_path / "a.png"))
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png would get the same mask .*a_pred\.png"):
        save(load_mask(tmp_path / "a.jpg"))


# --- volumes


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["a.b.nii.gz", "a.b.nii"])
def test_a_nifti_mask_lies_where_its_image_lies(name: str, kind: type, tmp_path: Path) -> None:
    image = write_volume(tmp_path / name, kind=kind)
    mask = load_mask(tmp_path / name, labels=3)
    assert SaveImageMask(tmp_path / "out")(mask) == [tmp_path / "out/a.b_pred.nii.gz"]
    found = nib.load(tmp_path / "out/a.b_pred.nii.gz")
    assert type(found) is kind
    assert np.array_equal(np.asarray(found.dataobj), mask[0].numpy())
    assert found.get_data_dtype() == np.uint8
    assert np.array_equal(found.affine, nib.load(tmp_path / name).affine)
    for form in ("get_sform", "get_qform"):
        expected, code = getattr(image.header, form)(coded=True)
        assert getattr(found.header, form)(coded=True)[1] == code
        np.testing.assert_array_equal(getattr(found.header, form)(), expected)
    assert found.header.get_zooms() == image.header.get_zooms()
    assert found.header.get_xyzt_units() == ("mm", "sec")
    assert bytes(found.header["descrip"]).strip(b"\0") == b"", "nothing about the patient travels with the mask"


def test_a_qform_of_its_own_is_kept(tmp_path: Path) -> None:
    image = write_volume(tmp_path / "a.nii")
    image.set_qform(np.diag([1.0, 1, 1, 1]), 3)
    nib.save(image, tmp_path / "a.nii")
    SaveImageMask(tmp_path / "out")(load_mask(tmp_path / "a.nii"))
    found = nib.load(tmp_path / "out/a_pred.nii.gz")
    assert np.array_equal(found.affine, AFFINE)
    assert found.header.get_qform(coded=True)[1] == 3
    assert np.array_equal(found.get_qform(), np.eye(4))


def turn_and_resample(path: Path) -> tuple[Compose, dict]:
    before = Compose(
        [
            VOLUME,
            Orientationd("image", "PLI", labels=None),
            Spacingd("image", [1.0, 1.0, 1.0]),
            DivisiblePadd("image", 8),
        ]
    )
    item = before({"image": str(path)})
    # The brightest voxels of the image are the prediction, so that it can be compared with the image itself.
    return before, {**item, "pred": item["image"].clone()}


def test_turned_and_resampled_volumes_come_back(tmp_path: Path) -> None:
    voxels = np.zeros((9, 8, 7), np.float32)
    voxels[1:4, 2:7, 3:6] = 1
    nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "a.nii.gz")
    before, item = turn_and_resample(tmp_path / "a.nii.gz")
    after = [
        Invertd("pred", before, orig_keys="image", nearest_interp=False),
        AsDiscreted("pred", threshold=0.5),
        SaveImageMaskd("pred", tmp_path / "out"),
    ]
    Compose(after)(item)
    found = nib.load(tmp_path / "out/a_pred.nii.gz")
    assert np.array_equal(found.affine, AFFINE)
    assert np.array_equal(np.asarray(found.dataobj), voxels)


def test_a_mask_that_was_not_turned_back_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((6, 6, 6), np.float32), AFFINE), tmp_path / "a.nii.gz")
    turned = Orientationd("image", "PLI", labels=None)(VOLUME({"image": str(tmp_path / "a.nii.gz")}))["image"]
    assert turned.shape == (1, 6, 6, 6), "the shape cannot tell"
    with pytest.raises(ValueError, match="mm away from the image; Invertd"):
        SaveImageMask(tmp_path / "out")(turned)


@pytest.mark.parametrize("shape", [(5, 6, 7, 1), (5, 6, 7, 2)])
def test_the_mask_of_channels_has_three_axes(shape: tuple[int, ...], tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", shape)
    mask = load_mask(tmp_path / "a.nii.gz")
    assert mask.shape == (1, 5, 6, 7)
    SaveImageMask(tmp_path / "out", overlay=True, channels=[shape[-1] - 1])(mask)
    assert nib.load(tmp_path / "out/a_pred.nii.gz").shape == (5, 6, 7)


def list_corners(image: itk.Image) -> np.ndarray:
    last = [int(length) - 1 for length in itk.size(image)]
    corners = [[i * last[0], j * last[1], k * last[2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    return np.array([image.TransformIndexToPhysicalPoint(corner) for corner in corners])


def read_series(folder: Path) -> itk.Image:
    names = itk.GDCMSeriesFileNames.New()
    names.SetDirectory(str(folder))
    return itk.imread(names.GetFileNames(names.GetSeriesUIDs()[0]))


def test_a_series_gets_a_nifti_mask_where_itk_puts_the_series(tmp_path: Path) -> None:
    angle = 0.3
    orientation = (1.0, 0.0, 0.0, 0.0, round(np.cos(angle), 6), round(np.sin(angle), 6))
    voxels = np.random.default_rng(0).integers(0, 500, (6, 8, 5)).astype(np.int16)
    write_series(tmp_path / "s 1", voxels, Geometry((-30.5, 12.25, 7.0), orientation, (0.8, 0.6, 2.5)), "P")
    before, item = turn_and_resample(tmp_path / "s 1")
    item = Invertd("pred", before, orig_keys="image", nearest_interp=True)(item)
    item["pred"] = (item["pred"] > 250).float()
    SaveImageMaskd("pred", tmp_path / "out", overlay=True)(item)
    assert list_files(tmp_path / "out") == ["s 1_overlay.png", "s 1_pred.nii.gz"]
    series, mask = read_series(tmp_path / "s 1"), itk.imread(str(tmp_path / "out/s 1_pred.nii.gz"))
    assert list(itk.size(mask)) == list(itk.size(series)) == [5, 8, 6]
    np.testing.assert_allclose(list_corners(mask), list_corners(series), atol=1e-4)
    found = nib.load(tmp_path / "out/s 1_pred.nii.gz")
    np.testing.assert_allclose(found.get_qform(), found.get_sform(), atol=1e-4)
    assert (int(found.header["qform_code"]), int(found.header["sform_code"])) == (1, 1)


def test_shear_is_left_to_the_sform(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", np.ones((4, 5, 6), np.int16), Geometry(), "P")
    for index, path in enumerate(files):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient = [0, 0.3 * index, index]
        dataset.save_as(path)
    image = LoadImage(reader=VolumeReader, ensure_channel_first=True)(str(tmp_path / "s"))
    SaveImageMask(tmp_path / "out")(make_mask(image))
    found = nib.load(tmp_path / "out/s_pred.nii.gz")
    sheared = [[-1, 0, 0, 0], [0, -1, -0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(found.affine, sheared, atol=1e-6)
    assert int(found.header["qform_code"]) == 0


def test_a_series_that_was_not_loaded_is_not_placed(tmp_path: Path) -> None:
    write_series(tmp_path / "s", np.ones((4, 5, 6), np.int16), Geometry(), "P")
    with pytest.raises(ValueError, match="lack spatial_shape or original_affine; load the image with LoadImaged"):
        SaveImageMask(tmp_path / "out")(
            MetaTensor(torch.ones(1, 6, 5, 4), meta={"filename_or_obj": str(tmp_path / "s")})
        )


# --- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mask: mask[:, :5], r"expected a mask on the image's grid \(1, 9, 13\), .*got \(1, 5, 13\); Invertd"),
        (lambda mask: mask.transpose(1, 2), r"transposed: \(1, 13, 9\), expected \(1, 9, 13\); .*reverse_indexing"),
        (lambda mask: torch.cat([mask] * 3), "one channel of labels, got 3; use AsDiscreted with argmax first"),
        (lambda mask: mask * 0.5, "whole numbers from 0; discretise it first"),
        (lambda mask: mask * float("nan"), "whole numbers from 0"),
        (lambda mask: -mask, "whole numbers from 0"),
        (lambda mask: mask * 256, "label 256 does not fit uint8; use dtype 'uint16'"),
        (lambda mask: mask.as_tensor(), "has no path of its image"),
        (lambda mask: MetaTensor(mask.as_tensor()), "has no path of its image"),
        (lambda mask: MetaTensor(mask, meta={"filename_or_obj": "a.svs"}), r"no mask can be written for a\.svs"),
    ],
)
def test_other_masks_are_refused_before_anything_is_written(change, message: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        SaveImageMask(tmp_path / "out")(change(load_mask(tmp_path / "a.png")))
    assert not (tmp_path / "out").exists()


def test_labels_without_a_value(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"values must list every label; got predictions of \[2\]"):
        SaveImageMask(tmp_path / "out", values=[0, 255])(load_mask(tmp_path / "a.png", labels=2))
    with pytest.raises(ValueError, match="label 65536 does not fit"):
        SaveImageMask(tmp_path / "out", values=[0, 255])(load_mask(tmp_path / "a.png") * 65536)


@pytest.mark.parametrize("case_id", ["/etc/x", "../x", "a/../../x", "."])
def test_a_case_stays_in_the_output_folder(case_id: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match="is not a path below the output folder"):
        SaveImageMask(tmp_path / "out")(load_mask(tmp_path / "a.png"), case_id)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"postfix": ""}, "postfix must not be empty"),
        ({"dtype": "int32"}, "dtype must be 'uint8' or 'uint16', got 'int32'"),
        ({"values": [0, 256], "dtype": "uint8"}, r"from 0 to 255 \(uint8\), got \[0, 256\]"),
        ({"values": [0, 65536]}, r"from 0 to 65535 \(uint16\), got \[0, 65536\]"),
        ({"values": {"-1": 3}}, "from 0 to 65535"),
        ({"values": {"1": -3}}, "from 0 to 65535"),
        ({"channels": [0, 1]}, "one or three channels"),
    ],
)
def test_bad_arguments(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        SaveImageMask(tmp_path, **options)


def test_switches_typed_on_the_command_line(tmp_path: Path) -> None:
    save = SaveImageMask(tmp_path / "out", overlay="True", figure="false")
    assert (save.overlay, save.figure) == (True, False)
    assert not (tmp_path / "out").exists(), "building a config must not touch the disk"
    with pytest.raises(InputError, match="--overlay must be true or false, got 'maybe'"):
        SaveImageMask(tmp_path, overlay="maybe")


# --- writing


@pytest.mark.parametrize("name", ["a.png", "a.nii.gz"])
def test_a_writer_that_fails_leaves_nothing_half(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (write_volume if "nii" in name else write_picture)(tmp_path / name)
    mask = load_mask(tmp_path / name)
    (path,) = SaveImageMask(tmp_path / "out")(mask)
    before = path.read_bytes()

    def refuse(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pipeline.atomic.os.replace", refuse)
    with pytest.raises(InputError, match=rf"cannot write the results of .*{name} to .*out: no space left on device"):
        SaveImageMask(tmp_path / "out")(mask)
    assert list_files(tmp_path / "out") == [path.name]
    assert path.read_bytes() == before


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match=r"cannot write the results of .*; .*--output_dir") as caught:
        SaveImageMask(tmp_path / "out")(load_mask(tmp_path / "a.png"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.tif", "a.nii.gz"])
def test_the_same_mask_gives_the_same_bytes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (write_volume if "nii" in name else write_picture)(tmp_path / name)
    (path,) = SaveImageMask(tmp_path / "out")(load_mask(tmp_path / name))
    first = path.read_bytes()
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    SaveImageMask(tmp_path / "out")(load_mask(tmp_path / name))
    assert path.read_bytes() == first


# --- overlays and figures


def test_the_overlay_is_the_picture_with_an_outline_for_every_label(tmp_path: Path) -> None:
    pixels = write_picture(tmp_path / "a.png")
    labels = np.zeros((9, 13), int)
    labels[1:4, 2:5], labels[5:8, 6:9] = 1, 2
    mask = MetaTensor(torch.as_tensor(labels[None]), meta=load_mask(tmp_path / "a.png").meta)
    written = SaveImageMask(tmp_path / "out", overlay=True)(mask)
    assert [path.name for path in written] == ["a_pred.png", "a_overlay.png"]
    overlay = read_pixels(written[1])
    inside = np.zeros_like(labels, dtype=bool)
    inside[2, 3] = inside[6, 7] = True
    for label in (1, 2):
        assert (overlay[(labels == label) & ~inside] == PALETTE[label - 1]).all()
    kept = (labels == 0) | inside
    assert np.array_equal(overlay[kept], pixels[kept])


@pytest.mark.parametrize(("shape", "channels", "shown"), [((9, 13, 3), [1], [1, 1, 1]), ((9, 13), None, [0, 0, 0])])
def test_channels_of_the_overlay(shape, channels, shown, tmp_path: Path) -> None:
    pixels = write_picture(tmp_path / "a.png", shape).reshape(9, 13, -1)
    mask = load_mask(tmp_path / "a.png") * 0
    overlay = read_pixels(SaveImageMask(tmp_path / "out", overlay=True, channels=channels)(mask)[1])
    assert np.array_equal(overlay, pixels[..., shown])


def test_a_figure_has_image_prediction_and_overlay(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    written = SaveImageMask(tmp_path / "out", figure=True)(load_mask(tmp_path / "a.png"))
    assert [path.name for path in written] == ["a_pred.png", "a_figure.png"]
    assert read_pixels(written[1]).shape == (28 + round(384 * 9 / 13), 3 * 384 + 8, 3)


def test_pictures_of_a_volume(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz")
    mask = load_mask(tmp_path / "a.nii.gz")
    _, overlay, figure = SaveImageMask(tmp_path / "out", overlay=True, figure=True)(mask)
    # 9 x 7 x 5 voxels of 2, 1.5 and 3 mm, the axes running P, L and S: 10.5 mm wide, 18 mm deep, 15 mm high.
    scale = 256 / 18
    assert read_pixels(overlay).shape == (256, 2 * round(10.5 * scale) + round(18 * scale) + 8, 3)
    assert read_pixels(figure).shape[1] == 3 * 384 + 8


@pytest.mark.realdata
def test_real_series(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom_mr/Study3/36468-FLAIRreg-58706"
    before, item = turn_and_resample(folder)
    item = Invertd("pred", before, orig_keys="image")(item)
    item["pred"] = (item["pred"] > 300).float()
    SaveImageMaskd("pred", tmp_path)(item)
    mask = itk.imread(str(tmp_path / f"{folder.name}_pred.nii.gz"))
    np.testing.assert_allclose(list_corners(mask), list_corners(read_series(folder)), atol=1e-3)
