"""Tasks of the Decathlon are read with and without dataset.json, and nothing is guessed in silence."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.datasets.layouts import read_layout
from pipeline.datasets.layouts.listing import ManifestDraft
from pipeline.datasets.layouts.volumes import number_labels
from pipeline.datasets.manifests.manifest_file import dump_manifest
from pipeline.datasets.manifests.schema import parse_manifest
from pipeline.datasets.phantoms.phantom_files import write_nifti
from pipeline.issues import InputError

NAMES = ("brain_001", "brain_004", "brain_010")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pairs and a test image, without dataset.json; the last label has the values 0 and 3."""
    folder = tmp_path / "Task99_Brain"
    rng = np.random.default_rng(0)
    for index, name in enumerate(NAMES):
        label = np.zeros((8, 7, 6), np.uint8)
        label[2:4, 2:4, 2 : 4 + index] = 1 + 2 * (index == 2)
        write_nifti(folder / "imagesTr" / f"{name}.nii.gz", rng.normal(size=label.shape).astype(np.float32))
        write_nifti(folder / "labelsTr" / f"{name}.nii.gz", label)
    write_nifti(folder / "imagesTs" / "brain_002.nii.gz", rng.normal(size=(8, 7, 6)).astype(np.float32))
    return folder


def read(root: Path, **options: Any) -> ManifestDraft:
    return read_layout("decathlon", root, **options)


def describe(root: Path, **changes: Any) -> None:
    content: dict[str, Any] = {
        "name": "Brain",
        "licence": "CC0",
        "reference": "somewhere",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "left", "3": "right"},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in NAMES],
        "test": ["./imagesTs/brain_002.nii.gz"],
    }
    content |= changes
    (root / "dataset.json").write_text(json.dumps(content))


def test_with_dataset_json(root: Path) -> None:
    describe(root)
    draft = read(root)
    manifest = draft.manifest
    assert draft.notes == ()
    assert (manifest.name, manifest.licence, manifest.source) == ("Brain", "CC0", "somewhere")
    assert manifest.labels == {0: "background", 1: "left", 2: "right"}
    assert manifest.mask_values == {0: 0, 1: 1, 3: 2}
    assert (manifest.channels, manifest.spacing_policy) == (("MRI",), "header")
    assert [(case.case_id, case.split) for case in manifest.cases] == [
        *((name, "train") for name in NAMES),
        ("brain_002", "test"),
    ]
    case = manifest.cases[2]
    assert (case.image, case.label) == (("imagesTr/brain_010.nii.gz",), ("labelsTr/brain_010.nii.gz",))
    assert case.facts == {
        "shape": [8, 7, 6],
        "dtype": "float32",
        "spacing": [1, 1, 1],
        "foreground": 16,
        "voxels": {"0": 320, "2": 16},
    }
    assert manifest.cases[3].label is None
    # Which volumes are of one person is not known, and not made up.
    assert {case.subject for case in manifest.cases} == {""}


def test_without_dataset_json_the_values_of_the_masks_are_the_labels(root: Path) -> None:
    draft = read(root)
    assert draft.manifest.labels == {0: "background", 1: "label 1", 2: "label 3"}
    assert draft.manifest.mask_values == {0: 0, 1: 1, 3: 2}
    assert draft.manifest.name == "Task99_Brain"
    assert [case.case_id for case in draft.manifest.cases] == [*NAMES, "brain_002"]
    (note,) = draft.notes
    assert note.code == "description-missing"
    assert "the masks hold the labels 0, 1, 3, without names" in note.message
    assert "--labels" in note.hint


def test_negative_values_are_no_labels(root: Path) -> None:
    label = np.zeros((8, 7, 6), np.int16)
    label[2:4, 2:4, 2:4], label[0, 0, 0] = 1, -1
    write_nifti(root / "labelsTr" / f"{NAMES[0]}.nii.gz", label)
    draft = read(root)
    assert draft.manifest.labels == {0: "background", 1: "label 1", 2: "label 3"}
    assert draft.manifest.mask_values == {0: 0, 1: 1, 3: 2}
    (found,) = (note for note in draft.notes if note.code == "label-values")
    assert found.message == "holds -1 (1 pixels), the manifest allows 0, 1, 3"


def test_the_background_is_the_first_label() -> None:
    numbered = number_labels({-1: "void", 1: "organ", 0: "background"}, "dataset.json")
    assert numbered["labels"] == {0: "background", 1: "void", 2: "organ"}
    assert numbered["mask_values"] == {0: 0, -1: 1, 1: 2}


@pytest.mark.parametrize("space", ["\u3000", "\xa0", "\u202f", "\u200c", "\u200d"])
def test_ids_of_any_script_can_be_read_back(root: Path, space: str) -> None:
    for folder in ("imagesTr", "labelsTr"):
        file = root / folder / f"{NAMES[0]}.nii.gz"
        file.rename(file.with_name(f"山田{space}太郎_0.nii.gz"))
    manifest = read(root).manifest
    assert "山田_太郎_0" in {case.case_id for case in manifest.cases}
    again, issues = parse_manifest(dump_manifest(manifest).encode())
    assert issues == []
    assert again == manifest


def test_labels_can_be_named(root: Path) -> None:
    assert read(root, labels="0=background,1=left,3=right").manifest.labels == {0: "background", 1: "left", 2: "right"}
    describe(root)
    assert read(root, labels="0=no,1=yes,3=maybe").manifest.labels == {0: "no", 1: "yes", 2: "maybe"}
    for text in ("left,right", "0=a,0=b", "1=left", "0=a,x=b", "0=a,1="):
        with pytest.raises(InputError, match="--labels"):
            read(root, labels=text)


def test_a_table_without_background_is_completed_as_the_message_says(root: Path) -> None:
    describe(root, labels={"1": "left one", "3": "right"})
    with pytest.raises(InputError, match="does not name 0, the background; name all: --labels ") as caught:
        read(root)
    (text,) = shlex.split(str(caught.value).rpartition("--labels ")[2])
    assert read(root, labels=text).manifest.labels == {0: "background", 1: "left one", 2: "right"}


def test_a_folder_of_official_name_has_the_official_labels(root: Path, tmp_path: Path) -> None:
    moved = root.rename(tmp_path / "Task04_Hippocampus")
    draft = read(moved)
    assert draft.manifest.labels == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert (draft.manifest.name, draft.manifest.licence) == ("hippocampus", "CC BY-SA 4.0")
    assert "official ones of Task04_Hippocampus" in draft.notes[0].message


def test_the_folder_above_and_hidden_files(root: Path, tmp_path: Path) -> None:
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder / "._brain_001.nii.gz").write_bytes(b"Mac OS X")
    above = tmp_path / "above"
    above.mkdir()
    shutil.move(root, above)
    draft = read(above)
    assert draft.manifest.cases[0].image == ("Task99_Brain/imagesTr/brain_001.nii.gz",)
    assert len(draft.manifest.cases) == 4
    assert "3 files are hidden and were ignored" in draft.notes[-1].message


def test_files_of_dataset_json_that_are_missing_are_counted(root: Path) -> None:
    describe(root)
    (root / "imagesTr" / "brain_004.nii.gz").unlink()
    draft = read(root)
    assert [case.case_id for case in draft.manifest.cases] == ["brain_001", "brain_010", "brain_002"]
    codes = {note.code: note.message for note in draft.notes}
    assert "imagesTr/brain_004.nii.gz" in codes["missing-file"]
    assert "labelsTr/brain_004.nii.gz" in codes["unmatched-file"]


def test_folds_and_validation_of_dataset_json(root: Path) -> None:
    items = [{"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz", "fold": i} for i, n in enumerate(NAMES)]
    describe(root, training=items[:2], validation=items[2:])
    assert [(case.split, case.fold) for case in read(root).manifest.cases] == [
        ("train", 0),
        ("train", 1),
        ("val", 2),
        ("test", None),
    ]


def test_pairs_that_do_not_fit(root: Path) -> None:
    (root / "labelsTr" / "brain_004.nii.gz").rename(root / "labelsTr" / "brain_005.nii.gz")
    with pytest.raises(InputError, match=r"imagesTr/brain_004.nii.gz has no label \(1 such files\), expected a file"):
        read(root)
    (root / "imagesTr" / "brain_004.nii.gz").unlink()
    with pytest.raises(InputError, match=r"labelsTr/brain_005.nii.gz has no image"):
        read(root)
    (root / "labelsTr" / "brain_005.nii.gz").unlink()
    write_nifti(root / "imagesTr" / "x_0000.nii.gz", np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(InputError, match="is this nnU-Net's layout\\?"):
        read(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"0": "background", "1": ["a"]}}, "is a region of several labels"),
        ({"labels": {"left": "right"}}, "is not a pair of a name and a number"),
        ({"labels": {"0": "a", "00": "b"}}, "the label 0 has two names"),
        ({"labels": []}, "expected labels as in"),
        ({"modality": {"1": "MRI"}}, "expected channels as in"),
        ({"training": {"image": "x"}}, "'training' is not a list"),
        ({"training": [{"image": 3}]}, "'training' holds"),
        ({"training": [{"image": "../x.nii.gz", "label": "y.nii.gz"}]}, "'../x.nii.gz' leaves the dataset's folder"),
        ({"training": [], "test": []}, "no pair of image and label"),
    ],
)
def test_descriptions_that_cannot_be_understood(root: Path, changes: dict[str, Any], message: str) -> None:
    describe(root, **changes)
    with pytest.raises(InputError) as caught:
        read(root)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_json_and_empty_folders(root: Path, tmp_path: Path) -> None:
    (root / "dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset.json is not JSON"):
        read(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no files in .*imagesTr; expected the dataset's folder"):
        read(tmp_path / "empty")


def test_broken_masks_are_told_by_the_builder(root: Path) -> None:
    (root / "labelsTr" / "brain_004.nii.gz").write_bytes(b"<html>")
    with pytest.raises(
        InputError, match=r"not-an-image labelsTr/brain_004.nii.gz \[brain_004\]: looks like a web page"
    ):
        read(root)


@pytest.mark.realdata
def test_real_folder(shared_data: Path) -> None:
    manifest = read(shared_data / "Task04_Hippocampus").manifest
    assert len(manifest.cases) == 180
    assert all(case.label for case in manifest.cases)
