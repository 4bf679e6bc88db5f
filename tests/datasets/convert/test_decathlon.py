import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data import load_decathlon_datalist
from monai.transforms import LoadImage

from pipeline.datasets import Case, Manifest, read_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.convert.conversion import convert_manifest
from pipeline.datasets.convert.reading import read_image, read_labels
from pipeline.datasets.convert.writing import fit_labels
from pipeline.datasets.layouts import read_layout
from pipeline.issues import InputError


def test_monai_reads_the_same_voxels_and_folds(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    assert convert_manifest(manifest, root, "decathlon", tmp_path / "out") == []
    path = tmp_path / "out" / "dataset.json"
    training, test = (load_decathlon_datalist(path, True, key) for key in ("training", "test"))
    assert [(item["fold"], item["subject"]) for item in training] == [(0, "P0"), (1, "P1"), (2, "P2"), (0, "P3")]
    assert ["label" in item for item in test] == [True, False]
    load = LoadImage()
    for case, item in zip(manifest.cases, training + test, strict=True):
        for key, files in (("image", case.image), ("label", case.label)):
            if files is not None:
                before, after = load(root / files[0]), load(item[key])
                np.testing.assert_array_equal(before, after)
                np.testing.assert_array_equal(before.affine, after.affine)


def test_the_description_is_that_of_the_decathlon(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    convert_manifest(*volumes, "decathlon", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert written["labels"] == {"0": "background", "1": "anterior", "5": "posterior"}
    assert written["modality"] == {"0": "MRI"}
    assert (written["numTraining"], written["numTest"], written["tensorImageSize"]) == (4, 2, "3D")
    assert written["training"][0] == {
        "image": "./imagesTr/case_0.nii.gz",
        "label": "./labelsTr/case_0.nii.gz",
        "fold": 0,
        "subject": "P0",
    }
    assert written["test"][1] == {"image": "./imagesTs/case_5.nii.gz", "subject": "P5"}


def test_test_images_without_masks_are_paths(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    cases = tuple(case for case in manifest.cases if case.case_id != "case 4")
    convert_manifest(replace(manifest, cases=cases), root, "decathlon", tmp_path / "out")
    path = tmp_path / "out" / "dataset.json"
    assert json.loads(path.read_text())["test"] == ["./imagesTs/case_5.nii.gz"]
    assert load_decathlon_datalist(path, True, "test") == [{"image": str(tmp_path / "out/imagesTs/case_5.nii.gz")}]


def test_one_fold_becomes_the_validation_list(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    convert_manifest(*volumes, "decathlon", tmp_path / "out", fold=0)
    path = tmp_path / "out" / "dataset.json"
    names = {
        key: [Path(item["image"]).name for item in load_decathlon_datalist(path, True, key)]
        for key in ("training", "validation")
    }
    assert names == {"training": ["case_1.nii.gz", "case_2.nii.gz"], "validation": ["case_0.nii.gz", "case_3.nii.gz"]}
    assert "fold" not in json.loads(path.read_text())["training"][0]
    with pytest.raises(InputError, match="has no fold 9"):
        convert_manifest(*volumes, "decathlon", tmp_path / "out9", fold=9)


def test_unchanged_files_keep_their_bytes(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    convert_manifest(manifest, root, "decathlon", tmp_path / "out")
    assert (tmp_path / "out/imagesTr/case_0.nii.gz").read_bytes() == (root / "image 0.nii.gz").read_bytes()
    assert (tmp_path / "out/labelsTr/case_0.nii.gz").read_bytes() == (root / "mask 0.nii.gz").read_bytes()
    # What was not compressed is compressed, its header as it was.
    again = nibabel.load(tmp_path / "out/imagesTr/case_1.nii.gz")
    assert again.header == nibabel.load(root / "image 1.nii").header


def test_channels_in_files_become_one_volume(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    cases = tuple(replace(case, image=(case.image[0], "image 3.nii.gz")) for case in manifest.cases[1:4:2])
    two = replace(manifest, stacking="channels", channels=("a", "b"), cases=cases)
    convert_manifest(two, root, "decathlon", tmp_path / "out", check=False)
    volume = nibabel.load(tmp_path / "out/imagesTr/case_1.nii.gz")
    assert volume.shape == (7, 9, 5, 2)
    for channel, name in enumerate(("image 1.nii", "image 3.nii.gz")):
        original = nibabel.load(root / name)
        np.testing.assert_array_equal(np.asarray(volume.dataobj)[..., channel], np.asarray(original.dataobj))
        np.testing.assert_array_equal(volume.affine, original.affine)


def test_masks_with_a_slope_are_written_with_plain_ids(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    image = nibabel.load(root / "mask 0.nii.gz")
    image.header.set_slope_inter(0.5, 0)
    scaled = nibabel.Nifti1Image((np.asarray(image.dataobj) * 2).astype(np.uint8), image.affine)
    nibabel.save(scaled, root / "mask 0.nii.gz")
    doubled = replace(manifest, mask_values={0: 0, 2: 1, 10: 5}, cases=manifest.cases[:1])
    convert_manifest(doubled, root, "decathlon", tmp_path / "out", check=False)
    written = nibabel.load(tmp_path / "out/labelsTr/case_0.nii.gz")
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj) * 2, np.asarray(scaled.dataobj))
    np.testing.assert_array_equal(written.affine, image.affine)


def test_ignored_voxels_keep_their_value(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    ignoring = replace(manifest, labels={0: "background", 1: "organ"}, mask_values={0: 0, 1: 1}, ignore_index=5)
    convert_manifest(ignoring, root, "decathlon", tmp_path / "out", check=False)
    assert json.loads((tmp_path / "out/dataset.json").read_text())["ignore_index"] == 5
    assert (tmp_path / "out/labelsTr/case_0.nii.gz").read_bytes() == (root / "mask 0.nii.gz").read_bytes()


def test_ignored_voxels_never_become_a_label(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    ignoring = replace(manifest, labels={0: "background", 1: "organ"}, mask_values={0: 0, 5: 1}, ignore_index=1)
    convert_manifest(ignoring, root, "decathlon", tmp_path / "out", check=False)
    assert json.loads((tmp_path / "out/dataset.json").read_text())["ignore_index"] == 2
    paths = root / "mask 0.nii.gz", tmp_path / "out/labelsTr/case_0.nii.gz"
    before, after = (nibabel.load(path).get_fdata() for path in paths)
    np.testing.assert_array_equal(after, np.select([before == 5, before == 1], [1, 2]))


def test_negative_ignored_voxels_get_a_value_that_every_format_holds(
    volumes: tuple[Manifest, Path], tmp_path: Path
) -> None:
    manifest, root = volumes
    image = nibabel.load(root / "mask 0.nii.gz")
    values = np.asarray(image.dataobj).astype(np.int16)
    values[values == 5] = -1
    nibabel.save(nibabel.Nifti1Image(values, image.affine), root / "mask 0.nii.gz")
    for stored in ({0: 0, 1: 1}, {1: 0, 0: 1}):  # as it is, and rewritten
        ignoring = replace(
            manifest,
            labels={0: "background", 1: "organ"},
            mask_values=stored,
            ignore_index=-1,
            cases=manifest.cases[:1],
        )
        out = tmp_path / f"out{stored[0]}"
        convert_manifest(ignoring, root, "decathlon", out, check=False)
        assert json.loads((out / "dataset.json").read_text())["ignore_index"] == 2
        after = np.asarray(nibabel.load(out / "labelsTr/case_0.nii.gz").dataobj)
        np.testing.assert_array_equal(after, np.select([values == -1, values == 0], [2, stored[0]], stored[1]))


def test_labels_are_written_in_a_type_that_holds_them() -> None:
    for ids, dtype in (([0, 255], "uint8"), ([0, 256], "uint16"), ([0, 65536], "uint32"), ([-1, 3], "int16")):
        written = fit_labels(np.array(ids, np.int32))
        assert (written.dtype, written.tolist()) == (dtype, ids)


def test_ambiguous_label_names_are_refused(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    for labels, message in (
        ({0: "background"}, "names no labels"),
        ({0: "b", 1: "background", 5: "x"}, "has two labels with the same name: background, x"),
        ({0: "b", 1: "x", 5: "x"}, "has two labels with the same name: x, x"),
    ):
        with pytest.raises(InputError, match=message):
            convert_manifest(replace(manifest, labels=labels), root, "decathlon", tmp_path / "out", check=False)


def compare(before: tuple[Manifest, Path], after: tuple[Manifest, Path], names: dict[str, str]) -> None:
    """Assert that cases are equal voxel by voxel, and in split and fold."""
    others = {case.case_id: case for case in after[0].cases}
    assert sorted(others) == sorted(names.values())
    for case in before[0].cases:
        other = others[names[case.case_id]]
        assert (other.fold, other.label is None) == (case.fold, case.label is None)
        first, second = (read_image(manifest, own, root) for (manifest, root), own in ((before, case), (after, other)))
        np.testing.assert_array_equal(first.array, second.array)
        if first.affine is not None and second.affine is not None:
            np.testing.assert_array_equal(first.affine, second.affine)
        if case.label is not None:
            mask, _ = read_labels(before[0], case, before[1])
            again, _ = read_labels(after[0], other, after[1])
            np.testing.assert_array_equal(mask.array, again.array)


def read_back(folder: Path) -> tuple[Manifest, Path]:
    manifest = read_layout("decathlon", folder).manifest
    assert check_manifest(manifest, folder, level="deep").errors() == []
    return manifest, folder


def test_round_trip_of_volumes(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    convert_manifest(*volumes, "decathlon", tmp_path / "out")
    again, root = read_back(tmp_path / "out")
    # The reader numbers the labels 0, 1, 5 without gaps.
    assert (again.labels[2], again.mask_values) == ("posterior", {0: 0, 1: 1, 5: 2})
    own = replace(again, labels=volumes[0].labels, mask_values={value: value for value in again.mask_values})
    compare(volumes, (own, root), {f"case {index}": f"case_{index}" for index in range(6)})
    assert [case.split for case in again.cases] == ["train"] * 4 + ["test"] * 2


def test_round_trip_of_stacks(lgg_phantom: Path, tmp_path: Path) -> None:
    manifest = read_manifest(lgg_phantom / "manifest.json")
    notes = convert_manifest(manifest, lgg_phantom / "kaggle_3m", "decathlon", tmp_path / "out")
    assert notes == ["stacks of pictures that became volumes, their unknown voxel size written as 1 x 1 x 1: 6"]
    again = read_back(tmp_path / "out")
    compare((manifest, lgg_phantom / "kaggle_3m"), again, {case.case_id: case.case_id for case in manifest.cases})
    assert again[0].channels == manifest.channels
    foreground = {case.case_id: case.facts["foreground"] for case in manifest.cases}
    assert {case.case_id: case.facts["foreground"] for case in again[0].cases} == foreground


def test_round_trip_of_pictures(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    convert_manifest(*pictures, "decathlon", tmp_path / "out")
    again = read_back(tmp_path / "out")
    compare(pictures, again, {case.case_id: case.case_id for case in pictures[0].cases})
    assert [case.split for case in again[0].cases] == ["train"] * 3 + ["val", "test"]


def test_objects_become_foreground_with_a_note(cells_phantom: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, root = read_manifest(cells_phantom[0]), cells_phantom[1]
    notes = convert_manifest(manifest, root, "decathlon", tmp_path / "out")
    assert notes == ["this layout has no instances: all objects became label 1"]
    again = read_back(tmp_path / "out")
    foreground = {case.case_id: case.facts["foreground"] for case in manifest.cases}
    assert {case.case_id: case.facts["foreground"] for case in again[0].cases} == foreground


def test_annotations_become_masks(coco_phantom: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, root = read_manifest(coco_phantom[0]), coco_phantom[1]
    convert_manifest(manifest, root, "decathlon", tmp_path / "out")
    again = read_back(tmp_path / "out")
    assert len(again[0].cases) == len(manifest.cases)
    foreground = sorted(case.facts["foreground"] for case in manifest.cases)
    assert sorted(case.facts["foreground"] for case in again[0].cases) == foreground


@pytest.mark.realdata
def test_round_trip_of_real_volumes(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "Task04_Hippocampus"
    names = sorted(path.name for path in (root / "labelsTr").glob("[!.]*.nii.gz"))[:12]
    cases = tuple(
        Case(name[:-7], "", (f"imagesTr/{name}",), (f"labelsTr/{name}",), fold=index % 3)
        for index, name in enumerate(names)
    )
    labels = {0: "background", 1: "Anterior", 2: "Posterior"}
    manifest = Manifest("hippocampus", "", "", "", labels, {n: n for n in labels}, ("MRI",), cases, "header")
    convert_manifest(manifest, root, "decathlon", tmp_path / "out", link="symlink")
    compare((manifest, root), read_back(tmp_path / "out"), {case.case_id: case.case_id for case in cases})
    assert all(path.is_symlink() for path in (tmp_path / "out" / "imagesTr").iterdir())


@pytest.mark.realdata
def test_real_series_lie_where_monai_reads_them(shared_data: Path, tmp_path: Path) -> None:
    """A DICOM series becomes one NIfTI file with the voxels and the affine that MONAI's ITKReader gives."""
    from monai.data import ITKReader

    root = shared_data / "dicom_mr"
    folders = sorted({path.parent for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")})
    assert len(folders) == 2
    cases = []
    for folder in folders:
        import itk

        ordered = itk.GDCMSeriesFileNames.New()
        ordered.SetDirectory(str(folder))
        files = ordered.GetFileNames(ordered.GetSeriesUIDs()[0])
        cases.append(Case(folder.name, "", tuple(str(Path(file).relative_to(root)) for file in files)))
    manifest = Manifest("mr", "", "", "", {0: "background", 1: "x"}, {}, ("MR",), tuple(cases), stacking="series")
    manifest = replace(manifest, labels={0: "background"})
    notes = convert_manifest(manifest, root, "decathlon", tmp_path / "out")
    assert notes == ["cases without mask, in imagesTs with the test cases: 2"]
    for folder in folders:
        series = LoadImage(reader=ITKReader())(folder)
        name = next((tmp_path / "out" / "imagesTs").glob(f"{folder.name}*"))
        volume = LoadImage()(name)
        np.testing.assert_array_equal(series, volume)
        np.testing.assert_allclose(series.affine, volume.affine, atol=1e-4)
