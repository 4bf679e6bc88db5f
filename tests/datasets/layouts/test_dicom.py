"""Trees of DICOM files become series, patients become numbers, and MONAI reads what the datalist names."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets import load_datalist, read_manifest, write_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import dump_manifest
from pipeline.datasets.phantoms import write_dicom_phantom
from pipeline.datasets.phantoms.dicom import Geometry, write_series
from pipeline.issues import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two patients: one with two series in folders of their own, one with a series."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "study"
    for place, patient in (("one/a", "MRN-1"), ("one/b", "MRN-1"), ("two", "MRN-2")):
        voxels = rng.integers(0, 900, (5, 9, 7)).astype(np.int16)
        write_series(folder / place, voxels, Geometry(spacing=(0.9, 0.7, 2.5)), patient)
    return folder


def read(root: Path) -> Manifest:
    return read_layout("dicom", root).manifest


def test_a_case_is_a_series(root: Path) -> None:
    manifest = read(root)
    assert [(case.case_id, case.subject, case.split) for case in manifest.cases] == [
        ("one_a", "patient_001", "test"),
        ("one_b", "patient_001", "test"),
        ("two", "patient_002", "test"),
    ]
    assert (manifest.stacking, manifest.channels, manifest.spacing_policy) == ("series", ("MR",), "header")
    case = manifest.cases[0]
    # Numbers run against the place.
    assert case.image == tuple(f"one/a/{number:06d}.dcm" for number in (5, 4, 3, 2, 1))
    assert case.facts["shape"] == [9, 7, 5]
    assert case.facts["spacing"] == [0.9, 0.7, 2.5]
    assert case.label is None
    assert check_manifest(manifest, root, level="deep").errors() == []


def test_no_patient_is_in_the_manifest(root: Path) -> None:
    text = dump_manifest(read(root))
    assert "MRN" not in text
    assert "Synthetic" not in text
    assert [note.code for note in read_layout("dicom", root).notes] == ["private-names"]


def test_files_without_ending_and_other_files(root: Path) -> None:
    for path in (root / "two").iterdir():
        path.rename(path.with_suffix(""))
    (root / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (root / "notes.txt").write_text("x")
    draft = read_layout("dicom", root)
    assert len(draft.manifest.cases[2].image) == 5
    assert "2 files are not DICOM, for example DICOMDIR" in {note.message for note in draft.notes}


def test_series_of_one_folder_are_told_apart(root: Path, tmp_path: Path) -> None:
    for path in (root / "one" / "b").iterdir():
        shutil.copy(path, root / "one" / "a" / f"b{path.name}")
    shutil.rmtree(root / "one" / "b")
    manifest = read(root)
    assert [case.case_id for case in manifest.cases] == ["one_a_1", "one_a_2", "two"]
    path = write_manifest(manifest, tmp_path / "m.json")
    with pytest.raises(
        InputError, match=r"case one_a_1: the series shares .*one/a with b000001.dcm and 4 more"
    ) as caught:
        load_datalist(path, root, "test")
    assert f"python -m pipeline dataset convert {path} --dataset_dir {root} --to decathlon -o OUT" in str(caught.value)


def test_a_series_in_two_folders_is_refused(root: Path, tmp_path: Path) -> None:
    manifest = read(root)
    case = manifest.cases[0]
    (root / "one" / "c").mkdir()
    moved = case.image[0].replace("/a/", "/c/")
    (root / case.image[0]).rename(root / moved)
    path = tmp_path / "m.json"
    path.write_text(dump_manifest(manifest).replace(case.image[0], moved))
    with pytest.raises(InputError, match="case one_a: the series lies in 2 folders"):
        load_datalist(path, root, "test")


def test_files_of_another_unicode_form_are_not_foreign(root: Path, tmp_path: Path) -> None:
    for file in (root / "two").iterdir():
        file.rename(file.with_name(f"e\u0301{file.name}"))
    manifest = replace(read(root), cases=read(root).cases[-1:])
    text = dump_manifest(manifest)
    assert "e\u0301" in text
    (tmp_path / "manifest.json").write_text(text.replace("e\u0301", "\xe9"))
    (item,) = load_datalist(tmp_path / "manifest.json", root, "test")
    assert item["image"] == str(root / "two")


def test_missing_duplicate_and_foreign_slices_are_errors(root: Path) -> None:
    (root / "two" / "000003.dcm").unlink()
    shutil.copy(root / "one" / "a" / "000002.dcm", root / "one" / "a" / "copy.dcm")
    issues = check_manifest(read(root), root).errors()
    assert [(issue.code, issue.record) for issue in issues] == [("dicom-series", "one_a"), ("dicom-series", "two")]
    assert "1 slices have the position of another slice" in issues[0].message
    assert "1 slices are missing" in issues[1].message
    manifest = read_manifest_with_foreign(root)
    assert "the files belong to 2 series" in {
        issue.message for issue in check_manifest(manifest, root).errors() if issue.code == "dicom-series"
    }


def read_manifest_with_foreign(root: Path) -> Manifest:
    shutil.copy(root / "two" / "000001.dcm", root / "foreign.dcm")
    shutil.copy(root / "one" / "b" / "000001.dcm", root / "two" / "000001.dcm")
    manifest = read(root)
    case = next(case for case in manifest.cases if case.case_id == "one_b")
    files = (*case.image, "foreign.dcm")
    return replace(manifest, cases=(replace(case, image=files, sha256={}),))


def test_folders_without_dicom_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match=f"no DICOM images under {tmp_path}; expected files"):
        read(tmp_path)
    (tmp_path / "x.dcm").write_text("<html>")
    with pytest.raises(InputError, match=r"no DICOM images under .*x.dcm: looks like a web page"):
        read(tmp_path)


def test_monai_reads_the_phantom_as_written(tmp_path: Path) -> None:
    from monai.data import ITKReader
    from monai.transforms import LoadImage

    manifest = write_dicom_phantom(tmp_path, cases=2, size=32)
    truth = json.loads((tmp_path / "truth.json").read_text())["series"]
    items = load_datalist(manifest, tmp_path / "series", "test")
    assert len(items) == 2
    for item, (name, expected) in zip(items, truth.items(), strict=True):
        assert item["image"] == str(tmp_path / "series" / name)
        image = LoadImage(reader=ITKReader())(item["image"])
        rows, columns, slices = expected["shape"]
        assert tuple(image.shape) == (columns, rows, slices)
        row, column, step = expected["spacing"]
        np.testing.assert_allclose(image.pixdim.numpy(), [column, row, step], atol=1e-4)
        # MONAI's affine is RAS, DICOM is LPS.
        np.testing.assert_allclose(image.affine[:3, 3].numpy() * [-1, -1, 1], expected["origin"], atol=1e-3)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_dicom_phantom(tmp_path / name, cases=2, size=24)
    first, again = (sorted((tmp_path / name).rglob("*.*")) for name in ("a", "b"))
    assert [path.read_bytes() for path in first if path.is_file()] == [p.read_bytes() for p in again if p.is_file()]
    assert read_manifest(tmp_path / "a" / "manifest.json").cases[1].subject == "patient_001"


@pytest.mark.realdata
def test_real_series(shared_data: Path, tmp_path: Path) -> None:
    from monai.data import ITKReader
    from monai.transforms import LoadImaged

    root = shared_data / "dicom_mr"
    draft = read_layout("dicom", root)
    assert [(case.case_id, case.subject, len(case.image)) for case in draft.manifest.cases] == [
        ("Study1_13_HCropVolume", "patient_001", 32),
        ("Study3_36468-FLAIRreg-58706", "patient_002", 22),
    ]
    assert [case.facts["spacing"] for case in draft.manifest.cases] == [[1, 1, 1], [0.6875, 0.6875, 6.5]]
    text = dump_manifest(draft.manifest)
    assert not any(word in text for word in ("PGBM", "Avasarala", "Dumbledore"))
    assert check_manifest(draft.manifest, root, level="deep").errors() == []
    path = write_manifest(draft.manifest, tmp_path / "m.json")
    images = [LoadImaged("image", reader=ITKReader())(item)["image"] for item in load_datalist(path, root, "test")]
    assert [tuple(image.shape) for image in images] == [(35, 51, 32), (280, 320, 22)]
    np.testing.assert_allclose(images[0].pixdim.numpy(), [1, 1, 1])
    np.testing.assert_allclose(images[1].pixdim.numpy(), [0.6875, 0.6875, 6.5], atol=1e-4)
