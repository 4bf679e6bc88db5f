"""find_volumes: NIfTI files and DICOM series that are found, and those that are refused in one line."""

import gzip
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from monai.transforms import LoadImaged

from pipeline.datasets import find_volumes
from pipeline.datasets.phantoms.dicom import Geometry, write_series
from pipeline.issues import InputError
from tests.volume_files import Place, write_file

SHAPE = (5, 6, 7)


def write_volume(path: Path, shape: tuple[int, ...] = SHAPE, change=None) -> Path:
    """Write a NIfTI file, its header changed by a function if there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), np.diag([1.0, 2.0, 3.0, 1.0]))
    if change:
        change(image.header)
    nib.save(image, path)
    return path


def write_dicom(folder: Path, *, patient: str = "P", first: int = 1, slices: int = 4) -> list[Path]:
    voxels = np.arange(slices * 30, dtype=np.int16).reshape(slices, 5, 6)
    return write_series(folder, voxels, Geometry(spacing=(1.0, 1.0, 2.0)), patient, first=first)


def list_ids(items: list[dict[str, str]]) -> list[str]:
    return [item["case_id"] for item in items]


def test_files_and_series_of_a_tree(tmp_path: Path) -> None:
    files = [write_volume(tmp_path / name) for name in ("b.nii", "deep/er/c.nii.gz")]
    write_dicom(tmp_path / "study/series 1")
    (tmp_path / "study/notes.txt").write_text("x")
    items = find_volumes(tmp_path)
    assert items == [
        {"case_id": "b", "image": str(files[0])},
        {"case_id": "c", "image": str(files[1])},
        {"case_id": "series 1", "image": str(tmp_path / "study/series 1")},
    ]
    shapes = [tuple(LoadImaged("image", ensure_channel_first=True)(item)["image"].shape) for item in items]
    assert shapes == [(1, *SHAPE), (1, *SHAPE), (1, 6, 5, 4)]


def test_a_file_and_a_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_volume(tmp_path / "c_seg.NII.GZ")
    assert find_volumes(path) == [{"case_id": "c_seg", "image": str(path)}]
    write_dicom(tmp_path / "series")
    monkeypatch.chdir(tmp_path)
    assert find_volumes("series") == [{"case_id": "series", "image": str(tmp_path / "series")}]


def test_series_without_endings(tmp_path: Path) -> None:
    for path in write_dicom(tmp_path / "s"):
        path.rename(path.with_suffix(""))
    assert list_ids(find_volumes(tmp_path)) == ["s"]


def test_ids_that_repeat_get_their_folders(tmp_path: Path) -> None:
    for name in ("p1/t1.nii.gz", "p2/t1.nii.gz", "p2/t1.nii"):
        write_volume(tmp_path / name)
    for name in ("s1/axial", "s2/axial"):
        write_dicom(tmp_path / name)
    assert list_ids(find_volumes(tmp_path)) == ["p1/t1", "p2/t1.nii", "p2/t1.nii.gz", "s1/axial", "s2/axial"]


def test_masks_and_results_are_no_images(tmp_path: Path) -> None:
    write_volume(tmp_path / "imagesTr/a.nii.gz")
    for name in ("labelsTr/a.nii.gz", "x_seg.nii", "x_LABEL.nii.gz", "x_mask.nii.gz", "x_pred.nii.gz"):
        write_volume(tmp_path / name)
    for name in (".hidden/b.nii.gz", "._a.nii.gz", "sub/labelsTs/a.nii.gz"):
        write_volume(tmp_path / name)
    assert list_ids(find_volumes(tmp_path)) == ["a"]
    with pytest.raises(InputError, match=r"no volume in .*labelsTr"):
        find_volumes(tmp_path / "labelsTr", exclude=["*"])


def zero_affine(header: nib.Nifti1Header) -> None:
    for row in ("srow_x", "srow_y", "srow_z"):
        header[row] = 0


def nan_affine(header: nib.Nifti1Header) -> None:
    header["srow_y"][1] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [(zero_affine, "the sform is all zero"), (nan_affine, "the sform is not finite")],
)
def test_a_broken_affine_is_named_in_one_line(change, message: str, tmp_path: Path) -> None:
    path = write_volume(tmp_path / "x.nii.gz")
    content = bytearray(gzip.decompress(path.read_bytes()))
    header = nib.Nifti1Header(bytes(content[:348]))
    change(header)
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match=rf"x\.nii\.gz: {message}; write a valid sform and qform") as caught:
        find_volumes(path)
    assert "\n" not in str(caught.value)


def test_a_header_without_affine_gives_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def forget(header: nib.Nifti1Header) -> None:
        header.set_sform(None, code=0)
        header.set_qform(None, code=0)

    path = tmp_path / "x.nii"
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), None)
    forget(image.header)
    nib.save(image, path)
    with caplog.at_level(logging.WARNING):
        assert list_ids(find_volumes(path)) == ["x"]
    assert "neither sform nor qform is set" in caplog.text


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # the checksum of the gzip data
    path.write_bytes(content)


def put_nan(path: Path) -> None:
    voxels = np.zeros(SHAPE, np.float32)
    voxels[1, 2, 3] = np.nan
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def write_film(path: Path) -> None:
    write_volume(path, (*SHAPE, 2))


def write_plane(path: Path) -> None:
    write_volume(path, (5, 6))


def unzip(path: Path) -> None:
    path.write_bytes(gzip.decompress(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "cut off"),
        (flip_bit, "bits have changed"),
        (put_nan, r"1 values are not finite, the first at index \(1, 2, 3\)"),
        (write_film, "the volume has a fourth axis of 2, expected 1; save one file per volume"),
        (write_plane, "the image is 5 x 6, expected a volume with 3 axes"),
        (unzip, "is not compressed"),
        (lambda path: path.write_bytes(b""), "empty|0 bytes"),
    ],
)
def test_bad_files_are_named_in_one_line(change, message: str, tmp_path: Path) -> None:
    path = write_volume(tmp_path / "x.nii.gz")
    change(path)
    write_volume(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=rf"{tmp_path}/x\.nii\.gz: .*({message})") as caught:
        find_volumes(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("shape", "channels"), [((*SHAPE, 1), 1), ((*SHAPE, 4), 4), ((*SHAPE, 4), None)])
def test_a_fourth_axis_is_channels(shape: tuple[int, ...], channels: int | None, tmp_path: Path) -> None:
    path = write_volume(tmp_path / "x.nii.gz", shape)
    assert len(find_volumes(path, channels=channels)) == 1


def test_a_volume_with_too_few_channels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has 1 channels, expected 4; the network was"):
        find_volumes(write_volume(tmp_path / "x.nii.gz"), channels=4)


def test_missing_slices(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s", slices=6)[2].unlink()
    with pytest.raises(InputError, match=r"1 slices are missing: .*restore the missing files") as caught:
        find_volumes(tmp_path)
    assert "manifest" not in str(caught.value)


def test_doubled_slices(tmp_path: Path) -> None:
    files = write_dicom(tmp_path / "s")
    shutil.copy(files[0], files[0].with_name("again.dcm"))
    with pytest.raises(InputError, match="1 slices have the position of another slice"):
        find_volumes(tmp_path)


def test_two_series_in_one_folder(tmp_path: Path) -> None:
    write_dicom(tmp_path / "s", patient="P")
    write_dicom(tmp_path / "s", patient="Q", first=5)
    with pytest.raises(InputError, match=r"/s holds 2 DICOM series \(.*\.dcm and .*; use one folder per series$"):
        find_volumes(tmp_path)


def test_a_series_that_the_reader_would_part(tmp_path: Path) -> None:
    files = write_dicom(tmp_path / "s")
    dataset = pydicom.dcmread(files[0])
    dataset.SeriesDate = "20000102"
    dataset.save_as(files[0])
    with pytest.raises(InputError, match=r"/s holds 2 DICOM series, of which only one would be read"):
        find_volumes(tmp_path)


def widen(dataset: Any) -> None:
    dataset.PixelSpacing = [1.5, 1.0]


def crop(dataset: Any) -> None:
    dataset.PixelData = dataset.pixel_array[:4].tobytes()
    dataset.Rows = 4


def turn(dataset: Any) -> None:
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def turn_slightly(dataset: Any) -> None:
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0.999992, 0.004]


def lose_place(dataset: Any) -> None:
    del dataset.ImagePositionPatient


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (widen, r"different pixel spacings: 1 x 1 \(3 files\), 1.5 x 1 \(1 files\)"),
        (crop, "holds 2 DICOM series .* belong to different series"),
        (turn, "holds 2 DICOM series .* belong to different series"),
        (turn_slightly, "1 of 4 slices have another orientation than the first|holds 2 DICOM series"),
        (lose_place, "1 of 4 slices have no position"),
    ],
)
def test_a_slice_unlike_the_others(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "s")[2]
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    with pytest.raises(InputError, match=message) as caught:
        find_volumes(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_broken_slice(tmp_path: Path) -> None:
    files = write_dicom(tmp_path / "s")
    files[1].write_bytes(files[1].read_bytes()[:-20])
    with pytest.raises(InputError, match=rf"{files[1].name}: cut off"):
        find_volumes(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "no such file or folder"),
        ("empty", "no volume in"),
        ("s/notes.txt", "is not a volume: expected a NIfTI"),
    ],
)
def test_nothing_to_find(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_dicom(tmp_path / "s")
    (tmp_path / "s/notes.txt").write_text("x")
    with pytest.raises(InputError, match=message):
        find_volumes(tmp_path / name)


@pytest.mark.realdata
def test_real_series(shared_data: Path) -> None:
    items = find_volumes(shared_data / "dicom_mr")
    assert list_ids(items) == ["13_HCropVolume", "36468-FLAIRreg-58706"]
    shapes = [tuple(LoadImaged("image", ensure_channel_first=True)(item)["image"].shape) for item in items]
    assert shapes == [(1, 35, 51, 32), (1, 280, 320, 22)]


@pytest.mark.realdata
def test_real_nifti(shared_data: Path) -> None:
    items = find_volumes(shared_data / "Task04_Hippocampus")
    assert {Path(item["image"]).parent.name for item in items} == {"imagesTr"}
    assert len(items) == len(list((shared_data / "Task04_Hippocampus/imagesTr").glob("*.nii.gz")))


def test_metaimage_and_nrrd(tmp_path: Path) -> None:
    voxels = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    files = [write_file(tmp_path / name, voxels) for name in ("a.mha", "b.mhd", "c.nrrd", "d.nhdr", "e.MHA")]
    for name in ("c.seg.nrrd", "a_mask.mha", "a_pred.mha"):  # masks, among them those of 3D Slicer
        write_file(tmp_path / name, voxels)
    items = find_volumes(tmp_path)
    assert [item["image"] for item in items] == [str(file) for file in files]
    assert list_ids(items) == ["a", "b", "c", "d", "e"]
    (tmp_path / "b.raw").unlink()
    with pytest.raises(InputError, match=r"b\.mhd: its voxels are in b\.raw, which is missing; put b\.raw beside it$"):
        find_volumes(tmp_path)
    flat = Place(directions=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 0.0)))
    with pytest.raises(InputError, match=r"the affine is singular: voxels have no volume; write valid directions"):
        find_volumes(write_file(tmp_path / "flat.mha", voxels, flat))
    with pytest.raises(InputError, match="has 3 channels, expected 1"):
        find_volumes(write_file(tmp_path / "rgb.nrrd", np.zeros((*SHAPE, 3), np.uint8)))


def test_several_volumes_and_those_that_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_dicom(tmp_path / "in" / name)
    broken = sorted((tmp_path / "in/b").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:-20])
    refused: dict[str, str] = {}
    items = find_volumes([tmp_path / "in", tmp_path / "gone.nii"], refused=refused.__setitem__)
    assert [item["case_id"] for item in items] == ["a", "c"]
    assert list(refused) == [str(tmp_path / "gone.nii"), str(broken)]
    # Files stand for their folder.
    first = sorted((tmp_path / "in/a").iterdir())
    assert find_volumes(first) == [{"case_id": "a", "image": str(tmp_path / "in/a")}]
