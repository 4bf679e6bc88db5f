import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np
import pytest
from skimage import io

from pipeline.datasets import Case, Manifest, load_datalist, read_manifest, write_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.convert.conversion import convert_manifest
from pipeline.datasets.convert.reading import read_image, read_labels
from pipeline.datasets.layouts import read_layout
from pipeline.issues import InputError


def read_any(path: Path) -> tuple[np.ndarray, Any]:
    """Read a file as nnU-Net's readers do: ITK for volumes, scikit-image for pictures."""
    if path.name.endswith(".nii.gz"):
        image = itk.imread(str(path))
        where = (tuple(image.GetSpacing()), tuple(image.GetOrigin()), np.asarray(image.GetDirection()).tolist())
        return itk.array_from_image(image), where
    return io.imread(path), None


def verify(folder: Path) -> dict[str, Any]:
    """Assert nnU-Net 2.8's requirements on raw data (``verify_dataset_integrity``), and return ``dataset.json``."""
    assert re.fullmatch(r"Dataset\d{3}_\S+", folder.name)
    description: dict[str, Any] = json.loads((folder / "dataset.json").read_text())
    assert {"labels", "channel_names", "numTraining", "file_ending"} <= set(description)
    ending, labels = description["file_ending"], dict(description["labels"])
    assert ending in (".nii.gz", ".png", ".tif")
    assert labels["background"] == 0
    ignore = labels.pop("ignore", None)
    ids = sorted(labels.values())
    assert ids == list(range(len(ids)))
    assert ignore in (None, len(ids))
    images = [path.name for path in (folder / "imagesTr").iterdir()]
    assert all(re.fullmatch(r".+_\d{4}" + re.escape(ending), name) for name in images)
    names = sorted({name[: -len(ending) - 5] for name in images})
    assert len(names) == description["numTraining"]
    assert sorted(path.name for path in (folder / "labelsTr").iterdir()) == [name + ending for name in names]
    for name in names:
        channels = [folder / "imagesTr" / f"{name}_{number:04d}{ending}" for number in range(99)]
        channels = [path for path in channels if path.is_file()]
        assert len(channels) == len(description["channel_names"])
        mask, place = read_any(folder / "labelsTr" / f"{name}{ending}")
        assert set(np.unique(mask)) <= {*ids, ignore}
        for path in channels:
            image, where = read_any(path)
            assert image.shape == mask.shape
            assert where is None or all(np.allclose(a, b) for a, b in zip(where, place, strict=True))
            assert not np.isnan(image).any()
    if (folder / "splits_final.json").exists():
        for fold in json.loads((folder / "splits_final.json").read_text()):
            assert sorted(fold["train"] + fold["val"]) == names
            assert fold["train"]
            assert fold["val"]
    return description


def test_volumes(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    out = tmp_path / "Dataset001_Toy"
    notes = convert_manifest(manifest, root, "nnunet", out)
    description = verify(out)
    assert description["labels"] == {"background": 0, "anterior": 1, "posterior": 2}
    assert description["channel_names"] == {"0": "MRI"}
    assert notes[0] == "labels were renumbered: posterior is 2"
    before = np.asarray(nibabel.load(root / "mask 0.nii.gz").dataobj)
    after = nibabel.load(out / "labelsTr" / "case_0.nii.gz")
    np.testing.assert_array_equal(np.asarray(after.dataobj), np.select([before == 1, before == 5], [1, 2]))
    assert (out / "imagesTr/case_0_0000.nii.gz").read_bytes() == (root / "image 0.nii.gz").read_bytes()
    assert sorted(path.name for path in (out / "labelsTs").iterdir()) == ["case_4.nii.gz"]
    assert sorted(path.name for path in (out / "imagesTs").iterdir()) == ["case_4_0000.nii.gz", "case_5_0000.nii.gz"]


def test_the_folds_are_those_that_training_uses_here(lgg_phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "Dataset001_LGG"
    path = lgg_phantom / "manifest.json"
    convert_manifest(read_manifest(path), lgg_phantom / "kaggle_3m", "nnunet", out)
    verify(out)
    splits = json.loads((out / "splits_final.json").read_text())
    assert len(splits) == 4
    for fold, split in enumerate(splits):
        for part in ("train", "val"):
            items = load_datalist(path, lgg_phantom / "kaggle_3m", part, fold, check=False)
            assert split[part] == sorted(item["case_id"] for item in items)


def test_an_official_validation_set_is_the_only_fold(pictures: tuple[Manifest, Path], tmp_path: Path) -> None:
    out = tmp_path / "Dataset001_Toy"
    convert_manifest(*pictures, "nnunet", out)
    description = verify(out)
    assert json.loads((out / "splits_final.json").read_text()) == [{"train": ["p0", "p1", "p2"], "val": ["p3"]}]
    assert description["file_ending"] == ".png"
    assert description["overwrite_image_reader_writer"] == "NaturalImage2DIO"
    assert list(description["channel_names"].values()) == ["red", "green", "blue"]


def test_without_validation_cases_there_are_no_splits(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    cases = tuple(replace(case, fold=None) for case in manifest.cases)
    notes = convert_manifest(replace(manifest, cases=cases), root, "nnunet", tmp_path / "Dataset001_X", check=False)
    assert not (tmp_path / "Dataset001_X" / "splits_final.json").exists()
    assert not any("splits_final" in note for note in notes)


def test_slices_of_a_stack_keep_the_patients_fold(lgg_phantom: Path, tmp_path: Path) -> None:
    manifest, root = read_manifest(lgg_phantom / "manifest.json"), lgg_phantom / "kaggle_3m"
    out = tmp_path / "Dataset002_LGG2D"
    convert_manifest(manifest, root, "nnunet", out, slices=True)
    description = verify(out)
    assert description["numTraining"] == sum(len(case.image) for case in manifest.cases if case.split == "train")
    case = next(case for case in manifest.cases if case.split == "train")
    split = json.loads((out / "splits_final.json").read_text())[case.fold or 0]
    assert sum(name.startswith(case.case_id) for name in split["val"]) == len(case.image)
    channels = [io.imread(out / "imagesTr" / f"{case.case_id}_7_{number:04d}.png") for number in range(3)]
    np.testing.assert_array_equal(np.stack(channels, axis=-1), io.imread(root / case.image[6]))


def test_ignored_voxels_get_the_last_label(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    ignoring = replace(manifest, labels={0: "background", 5: "organ"}, mask_values={0: 0, 5: 5}, ignore_index=1)
    convert_manifest(ignoring, root, "nnunet", tmp_path / "Dataset001_X")
    assert verify(tmp_path / "Dataset001_X")["labels"] == {"background": 0, "organ": 1, "ignore": 2}
    before = np.asarray(nibabel.load(root / "mask 0.nii.gz").dataobj)
    after = np.asarray(nibabel.load(tmp_path / "Dataset001_X/labelsTr/case_0.nii.gz").dataobj)
    np.testing.assert_array_equal(after == 2, before == 1)
    np.testing.assert_array_equal(after == 1, before == 5)


def test_a_volume_with_channels_is_divided(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    data = np.random.default_rng(0).integers(0, 99, (7, 9, 5, 2)).astype(np.int16)
    affine = nibabel.load(root / "mask 0.nii.gz").affine
    nibabel.save(nibabel.Nifti1Image(data, affine), root / "two.nii.gz")
    two = replace(manifest, channels=("T1", "T2"), cases=(replace(manifest.cases[0], image=("two.nii.gz",)),))
    convert_manifest(two, root, "nnunet", tmp_path / "Dataset001_X", check=False)
    assert verify(tmp_path / "Dataset001_X")["channel_names"] == {"0": "T1", "1": "T2"}
    for channel in (0, 1):
        written = nibabel.load(tmp_path / f"Dataset001_X/imagesTr/case_0_{channel:04d}.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), data[..., channel])
        np.testing.assert_array_equal(written.affine, affine)
    mixed = replace(manifest, cases=(two.cases[0], manifest.cases[1]))
    with pytest.raises(InputError, match=r"the images have 1 \(case 1\) to 2 channels; nnU-Net needs one number"):
        convert_manifest(mixed, root, "nnunet", tmp_path / "Dataset002_X", check=False)


def test_volumes_and_pictures_do_not_mix(
    volumes: tuple[Manifest, Path], pictures: tuple[Manifest, Path], tmp_path: Path
) -> None:
    picture = replace(pictures[0].cases[0], image=("../pictures/p0.png",), label=("../pictures/m0.png",))
    mixed = replace(volumes[0], cases=(volumes[0].cases[0], picture))
    with pytest.raises(InputError, match="volumes and pictures in one dataset"):
        convert_manifest(mixed, volumes[1], "nnunet", tmp_path / "Dataset001_X", check=False)


@pytest.mark.parametrize("name", ["X", "Dataset1_X", "Dataset0001_X", "Dataset001", "Dataset001_a b"])
def test_names_that_nnunet_does_not_take(name: str, volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nnU-Net needs a folder named DatasetXXX_NAME"):
        convert_manifest(*volumes, "nnunet", tmp_path / name)


def read_back(folder: Path) -> Manifest:
    manifest = read_layout("nnunet", folder).manifest
    assert check_manifest(manifest, folder, level="deep").errors() == []
    return manifest


def test_round_trip_of_volumes(volumes: tuple[Manifest, Path], tmp_path: Path) -> None:
    manifest, root = volumes
    out = tmp_path / "Dataset001_Toy"
    convert_manifest(manifest, root, "nnunet", out)
    again = read_back(out)
    numbers = {0: 0, 1: 1, 5: 2}
    others = {case.case_id: case for case in again.cases}
    assert sorted(others) == [f"case_{index}" for index in range(6)]
    for case in manifest.cases:
        other = others[case.case_id.replace(" ", "_")]
        assert (other.split, other.fold) == (case.split, case.fold)
        first, second = read_image(manifest, case, root), read_image(again, other, out)
        np.testing.assert_array_equal(first.array, second.array)
        np.testing.assert_array_equal(first.affine, second.affine)
        if case.label:
            mask, _ = read_labels(manifest, case, root)
            renumbered = np.vectorize(numbers.get)(mask.array)
            np.testing.assert_array_equal(renumbered, read_labels(again, other, out)[0].array)


@pytest.mark.parametrize("slices", [False, True])
def test_round_trip_of_stacks(slices: bool, lgg_phantom: Path, tmp_path: Path) -> None:
    manifest, root = read_manifest(lgg_phantom / "manifest.json"), lgg_phantom / "kaggle_3m"
    out = tmp_path / "Dataset001_LGG"
    convert_manifest(manifest, root, "nnunet", out, slices=slices)
    again = read_back(out)
    for case in manifest.cases:
        own = [other for other in again.cases if other.case_id.startswith(case.case_id)]
        assert len(own) == (len(case.image) if slices else 1)
        assert {(other.split, other.fold) for other in own} == {(case.split, case.fold)}
        assert sum(other.facts["foreground"] for other in own) == case.facts["foreground"]
        if not slices:
            np.testing.assert_array_equal(read_image(manifest, case, root).array, read_image(again, own[0], out).array)


def test_annotations_and_objects_become_masks(
    coco_phantom: tuple[Path, Path], cells_phantom: tuple[Path, Path], tmp_path: Path
) -> None:
    for number, (path, root) in enumerate((coco_phantom, cells_phantom), start=1):
        manifest = read_manifest(path)
        out = tmp_path / f"Dataset{number:03d}_X"
        convert_manifest(manifest, root, "nnunet", out)
        verify(out)
        foreground = sorted(case.facts["foreground"] for case in manifest.cases)
        assert sorted(case.facts["foreground"] for case in read_back(out).cases) == foreground


@pytest.mark.realdata
def test_real_volumes(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "Task04_Hippocampus"
    names = sorted(path.name for path in (root / "labelsTr").glob("[!.]*.nii.gz"))[:12]
    cases = tuple(
        Case(name[:-7], "", (f"imagesTr/{name}",), (f"labelsTr/{name}",), fold=index % 3)
        for index, name in enumerate(names)
    )
    labels = {0: "background", 1: "Anterior", 2: "Posterior"}
    manifest = Manifest("hippocampus", "", "", "", labels, {n: n for n in labels}, ("MRI",), cases, "header")
    out = tmp_path / "Dataset004_Hippocampus"
    write_manifest(manifest, tmp_path / "m.json")
    convert_manifest(manifest, root, "nnunet", out, link="symlink")
    assert verify(out)["numTraining"] == 12
    for name in names:
        assert (out / "imagesTr" / name.replace(".nii.gz", "_0000.nii.gz")).is_symlink()
        assert (out / "labelsTr" / name).read_bytes() == (root / "labelsTr" / name).read_bytes()
