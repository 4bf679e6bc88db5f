"""nnU-Net's raw data are read in both versions, channels in order, folds as nnU-Net has them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import load_datalist, write_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.phantoms.phantom_files import write_nifti
from pipeline.issues import InputError

NAMES = ("a_01", "a_02", "b_07")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three cases of two channels and a test case."""
    folder = tmp_path / "Dataset001_Brain"
    rng = np.random.default_rng(0)
    for name in (*NAMES, "c_03"):
        part = "Ts" if name == "c_03" else "Tr"
        for channel in range(2):
            image = rng.normal(channel * 100, 1, size=(8, 7, 6)).astype(np.float32)
            write_nifti(folder / f"images{part}" / f"{name}_{channel:04d}.nii.gz", image)
        if part == "Tr":
            label = np.zeros((8, 7, 6), np.uint8)
            label[2:4, 2:4, 2:4] = 1
            write_nifti(folder / "labelsTr" / f"{name}.nii.gz", label)
    describe(folder)
    return folder


def describe(root: Path, **changes: Any) -> None:
    content: dict[str, Any] = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "tumour": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    content = {key: value for key, value in (content | changes).items() if value is not None}
    (root / "dataset.json").write_text(json.dumps(content))


def read(root: Path, **options: Any) -> Manifest:
    return read_layout("nnunet", root, **options).manifest


def told(root: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_version_2(root: Path) -> None:
    manifest = read(root)
    assert (manifest.name, manifest.channels, manifest.stacking) == ("Dataset001_Brain", ("T1", "FLAIR"), "channels")
    assert manifest.labels == {0: "background", 1: "tumour"}
    assert [(case.case_id, case.split) for case in manifest.cases] == [
        *((name, "train") for name in NAMES),
        ("c_03", "test"),
    ]
    case = manifest.cases[0]
    assert case.image == ("imagesTr/a_01_0000.nii.gz", "imagesTr/a_01_0001.nii.gz")
    assert case.label == ("labelsTr/a_01.nii.gz",)
    assert case.facts["shape"] == [8, 7, 6]
    assert case.facts["foreground"] == 8
    assert manifest.cases[3].label is None
    assert check_manifest(manifest, root, level="deep").errors() == []


def test_version_1(root: Path) -> None:
    labels, modality = {"0": "background", "1": "tumour"}, {"0": "T1", "1": "FLAIR"}
    before = read(root)
    describe(root, labels=labels, modality=modality, channel_names=None, file_ending=None)
    assert read(root) == before


def test_monai_stacks_the_channels(root: Path, tmp_path: Path) -> None:
    from monai.data import NibabelReader
    from monai.transforms import LoadImaged

    path = write_manifest(read(root), tmp_path / "m.json")
    item = load_datalist(path, root, "train")[1]
    assert item["image"] == [str(root / "imagesTr" / f"a_02_{number:04d}.nii.gz") for number in (0, 1)]
    loaded = LoadImaged(("image", "label"), reader=NibabelReader(), ensure_channel_first=True)(item)
    assert tuple(loaded["image"].shape) == (2, 8, 7, 6)
    assert [round(float(channel.mean()) / 100) for channel in loaded["image"]] == [0, 1]
    assert tuple(loaded["label"].shape) == (1, 8, 7, 6)
    assert int(loaded["label"].sum()) == 8


def test_the_ignore_label(root: Path) -> None:
    describe(root, labels={"background": 0, "tumour": 1, "ignore": 2})
    label = np.zeros((8, 7, 6), np.uint8)
    label[:2], label[2:4, 2:4, 2:4] = 2, 1
    write_nifti(root / "labelsTr" / "a_01.nii.gz", label)
    manifest = read(root)
    assert (manifest.ignore_index, manifest.labels) == (2, {0: "background", 1: "tumour"})
    assert manifest.cases[0].facts["foreground"] == 8
    assert check_manifest(manifest, root, level="deep").errors() == []


def test_regions_are_refused_unless_the_labels_are_named(root: Path) -> None:
    describe(root, labels={"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    assert "'whole' is a region of several labels ([1, 2])" in told(root)
    assert read(root, labels="0=background,1=oedema,2=core").labels == {0: "background", 1: "oedema", 2: "core"}


def test_folds_of_nnunet(root: Path) -> None:
    folds = [{"train": ["a_02", "b_07"], "val": ["a_01"]}, {"train": ["a_01"], "val": ["a_02", "b_07"]}]
    (root / "splits_final.json").write_text(json.dumps(folds))
    assert [case.fold for case in read(root).cases] == [0, 1, 1, None]
    folds[1]["val"].append("a_01")
    (root / "splits_final.json").write_text(json.dumps(folds))
    assert "'a_01' is validation in the folds 0 and 1" in told(root)
    (root / "splits_final.json").write_text(json.dumps([{"train": [], "val": ["zebra"]}]))
    assert "'zebra' is not a case of imagesTr" in told(root)
    (root / "splits_final.json").write_text("{}")
    assert "expected a list of" in told(root)


def test_pictures_with_all_channels_in_a_file(tmp_path: Path) -> None:
    root = tmp_path / "Dataset002_Skin"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in "ab":
        picture = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "imagesTr" / f"{name}_0000.png")
        Image.fromarray((picture[..., 0] > 128).astype(np.uint8)).save(root / "labelsTr" / f"{name}.png")
    describe(root, channel_names={"0": "R", "1": "G", "2": "B"}, file_ending=".png")
    manifest = read(root)
    assert (manifest.stacking, manifest.spacing_policy) == ("slices", "none")
    assert manifest.cases[0].image == ("imagesTr/a_0000.png",)
    assert check_manifest(manifest, root, level="deep").errors() == []


def test_missing_channels_labels_and_descriptions(root: Path) -> None:
    (root / "imagesTr" / "a_02_0001.nii.gz").rename(root / "imagesTr" / "a_02_0002.nii.gz")
    assert "case a_02 has the channels 0000, 0002, expected 0000, 0001" in told(root)
    (root / "imagesTr" / "a_02_0002.nii.gz").rename(root / "imagesTr" / "a_02_0001.nii.gz")
    (root / "labelsTr" / "a_02.nii.gz").rename(root / "labelsTr" / "a_04.nii.gz")
    assert "a_04.nii.gz has no image, expected imagesTr/a_04_0000.nii.gz" in told(root)
    (root / "labelsTr" / "a_04.nii.gz").unlink()
    assert "a_02_0000.nii.gz has no label labelsTr/a_02.nii.gz" in told(root)
    describe(root, dataset={"a": {}})
    assert "'dataset' lists files elsewhere" in told(root)
    describe(root, file_ending=".mha")
    assert "no CASE_0000.mha in" in told(root)
    (root / "dataset.json").unlink()
    assert "expected nnU-Net's, with channel_names" in told(root)
