from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.bundle.dataset import UserDataset, read_dataset
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.manifests.manifest_file import read_manifest, write_manifest
from pipeline.issues import InputError
from tests.bundle.conftest import build, write_pictures


@pytest.fixture
def rewrite(grey: UserDataset, tmp_path: Path) -> Callable[..., Path]:
    """Write the manifest of `grey` with other fields."""
    return lambda **fields: write_manifest(replace(grey.manifest, **fields), tmp_path / "my.json")


def refuse(path: Path, folder: Path | None = None, **names: object) -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(path, folder, **names)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_names_come_from_the_manifest_or_are_given(grey: UserDataset, colour: UserDataset) -> None:
    assert (grey.channels, grey.labels) == (("intensity",), ("background", "lesion"))
    assert (colour.channels, colour.labels) == (("red", "green", "blue"), ("background", "cyst", "nodule"))
    other = read_dataset(colour.path, channels=("a", "b", "c"), labels=("one", "two"))
    assert (other.channels, other.labels) == (("a", "b", "c"), ("background", "one", "two"))
    assert read_dataset(colour.path, channels=3).channels == ("red", "green", "blue")
    assert read_dataset(colour.path, labels=("air", "one", "two")).labels == ("air", "one", "two")


def test_a_manifest_without_channels_needs_their_number(rewrite: Callable[..., Path]) -> None:
    path = rewrite(channels=())
    assert "names no channels" in refuse(path)
    assert "--channels red,green,blue" in refuse(path)
    assert read_dataset(path, channels=2).channels == ("channel 1", "channel 2")
    assert "expected a number from 1" in refuse(path, channels=0)


def test_names_that_do_not_fit(grey: UserDataset, colour: UserDataset) -> None:
    assert "--channels: the images have 1 by" in refuse(grey.path, channels=3)
    assert "(intensity), got 2" in refuse(grey.path, channels=("a", "b"))
    assert "--labels: expected 2 different names, for cyst, nodule, got one" in refuse(colour.path, labels=("one",))
    assert "different names" in refuse(colour.path, labels=("same", "Same"))


def test_labels_with_gaps_or_none(rewrite: Callable[..., Path]) -> None:
    text = refuse(rewrite(labels={0: "background", 2: "tumour"}))
    assert "without gaps, got 0 background, 2 tumour" in text
    assert "got 0 background;" in refuse(rewrite(labels={0: "background"}))


def test_ignored_values_are_refused(rewrite: Callable[..., Path]) -> None:
    assert "the value 255 of the masks is ignore_index" in refuse(rewrite(ignore_index=255))


def test_a_manifest_that_was_not_split_names_the_command(grey: UserDataset, rewrite: Callable[..., Path]) -> None:
    cases = tuple(replace(case, fold=None, split="train") for case in grey.manifest.cases)
    path = rewrite(cases=cases)
    expected = f"{path} has no validation cases; first: python -m pipeline dataset split {path} --folds 5"
    assert refuse(path) == expected
    path = rewrite(cases=tuple(replace(case, split="val") for case in cases))
    assert "has no training cases" in refuse(path)


def test_cases_without_mask(grey: UserDataset, rewrite: Callable[..., Path]) -> None:
    first, *rest = grey.manifest.cases
    assert f"1 cases for training and validation have no mask, for example {first.case_id}" in refuse(
        rewrite(cases=(replace(first, label=None), *rest))
    )
    # A test case needs none.
    assert read_dataset(rewrite(cases=(replace(first, label=None, split="test", fold=None), *rest)))


def test_the_folder_must_be_the_datasets(grey: UserDataset, tmp_path: Path) -> None:
    assert "does not exist" in refuse(grey.path, tmp_path / "nowhere")
    assert "holds none of the 6 cases" in refuse(grey.path, tmp_path)
    assert grey.folder is not None
    assert "did you mean" in refuse(grey.path, grey.folder.parent)


def test_the_first_fold_validates(grey: UserDataset, rewrite: Callable[..., Path]) -> None:
    assert grey.fold == 0
    cases = tuple(replace(case, fold=(case.fold or 0) + 3) for case in grey.manifest.cases)
    other = read_dataset(rewrite(cases=cases))
    assert other.fold == 3
    assert {len(other.parts["train"]), len(other.parts["val"])} == {3}
    named = tuple(replace(case, fold=None, split="val" if index else "train") for index, case in enumerate(cases))
    assert read_dataset(rewrite(cases=named)).fold == 0


@pytest.mark.parametrize(
    ("fields", "encoding", "grey_values"),
    [
        ({}, {"values": [0, 255]}, [0, 255]),
        ({"mask_values": {0: 0, 1: 1}}, {"values": [0, 1]}, [0, 1]),
        ({"mask_values": {}}, {"values": [0, 1]}, [0, 255]),
        ({"mask_values": {0: 0, 128: 1, 255: 1}}, {"values": {"0": 0, "128": 1, "255": 1}}, [0, 128]),
        ({"mask_values": {0: 1, 255: 0}}, {"values": {"0": 1, "255": 0}}, [255, 0]),
        ({"mask_values": {0: 0, 4000: 1}}, {"values": [0, 4000]}, [0, 4000]),
        ({"mask_values": {0: 0, 70000: 1}}, {"values": [0, 70000]}, [0, 255]),
        ({"mask_values": {0: 0, -1: 1}}, {"values": [0, -1]}, [0, 255]),
        ({"binarize": 128.0}, {"threshold": 128.0}, [0, 255]),
        ({"color_map": {"#000000": 0, "#ff0000": 1}}, {"colors": {"#000000": 0, "#ff0000": 1}}, [0, 255]),
    ],
)
def test_values_of_masks(
    grey: UserDataset, fields: dict[str, object], encoding: dict[str, object], grey_values: list[int]
) -> None:
    dataset = replace(grey, manifest=replace(grey.manifest, **fields))  # type: ignore[arg-type]
    assert dataset.encoding() == encoding
    assert dataset.grey_values() == grey_values


def test_grey_values_of_several_labels(colour: UserDataset) -> None:
    assert colour.grey_values() == [0, 1, 2]
    other = replace(colour, manifest=replace(colour.manifest, mask_values={0: 0, 1000: 1, 2000: 2}))
    assert other.grey_values() == [0, 1000, 2000]
    assert other.describe_values() == "0 background, 1000 cyst, 2000 nodule"
    assert other.encoding() == {"values": [0, 1000, 2000]}


def make_cases(manifest: Manifest, *pairs: tuple[str, str, str]) -> Manifest:
    cases = [
        Case(str(index), f"p{index}", (image,), label=(mask,), split=split)  # type: ignore[arg-type]
        for index, (image, mask, split) in enumerate(pairs)
    ]
    return replace(manifest, cases=tuple(cases))


@pytest.mark.parametrize(
    ("pairs", "folder"),
    [
        ([("images/a.png", "masks/a.png", "train"), ("images/b.png", "masks/b.png", "val")], "images"),
        ([("a.png", "a_mask.png", "train"), ("b.png", "b_mask.png", "val")], "."),
        ([("train/images/a.png", "m/a", "train"), ("test/images/b.png", "m/b", "test")], "test/images"),
        ([("images/val/a.png", "m/a", "val"), ("images/val/x/b.png", "m/b", "val")], "images/val"),
        ([("a/images/a.png", "m/a", "val"), ("b/images/b.png", "m/b", "val")], "a/images"),
    ],
)
def test_where_images_are_found(grey: UserDataset, pairs: list[tuple[str, str, str]], folder: str) -> None:
    assert replace(grey, manifest=make_cases(grey.manifest, *pairs)).image_folder() == folder


def test_folders_of_images_are_named_together_if_they_hold_nothing_else(grey: UserDataset, tmp_path: Path) -> None:
    pairs = [("set/p1/a.png", "set/p1/a_mask.png", "val"), ("set/p2/b.png", "set/p2/b_mask.png", "val")]
    dataset = replace(grey, manifest=make_cases(grey.manifest, *pairs), folder=tmp_path)
    for image, _, _ in pairs:
        (tmp_path / image).parent.mkdir(parents=True)
        (tmp_path / image).write_text("")
    (tmp_path / "set/notes").mkdir()
    (tmp_path / "set/notes/readme.txt").write_text("")
    assert dataset.image_folder() == "set"
    (tmp_path / "set/notes/scan.png").write_text("")
    assert dataset.image_folder() == "set/p1"
    assert replace(dataset, folder=None).image_folder() == "set/p1"


def test_masks_that_lie_among_the_images(grey: UserDataset, tmp_path: Path) -> None:
    assert grey.masks_among_images(()) == []
    folder = write_pictures(tmp_path / "beside", beside=True)
    path = build(folder, image="images/*.png", mask="images/*_drawn.png", mask_values="0,255")
    beside = read_dataset(path, folder)
    assert beside.masks_among_images(("*_mask.*",)) == ["*_drawn.*"]
    assert beside.masks_among_images(("*_drawn.*",)) == []
    same = make_cases(grey.manifest, ("images/a.png", "images/masks/a.png", "val"))
    assert replace(grey, manifest=same).masks_among_images(()) is None


def test_what_is_known_of_the_cases(grey: UserDataset) -> None:
    assert grey.is_eight_bit
    assert not grey.has_subjects
    cases = grey.manifest.cases
    wide = replace(cases[0], facts={"dtype": "uint16"})
    assert not replace(grey, manifest=replace(grey.manifest, cases=(wide, *cases[1:]))).is_eight_bit
    named = tuple(replace(case, subject=case.case_id) for case in cases)
    assert replace(grey, manifest=replace(grey.manifest, cases=named)).has_subjects
    shared = tuple(replace(case, subject="one") for case in cases)
    assert not replace(grey, manifest=replace(grey.manifest, cases=shared)).has_subjects


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    assert "cannot read the manifest" in refuse(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    assert "manifest-syntax" in refuse(tmp_path / "bad.json")


def test_paths_are_absolute(grey: UserDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(grey.path.parent)
    here = read_dataset(Path(grey.path.name), Path("grey"))
    assert (here.path, here.folder) == (grey.path, grey.folder)
    assert read_manifest(here.path) == grey.manifest
