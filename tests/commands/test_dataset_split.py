import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.commands.cli import main
from pipeline.datasets import Case, Manifest, read_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Manifest ``m.json`` of eight training, two validation and three test images, subjects unknown."""
    cases = []
    for index, split in enumerate(["train"] * 8 + ["val"] * 2 + ["test"] * 3):
        name = f"{split}_{index}.png"
        coarse = np.random.default_rng(index).integers(0, 255, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC).save(tmp_path / name)
        cases.append(Case(name[:-4], "", (name,), split=split))
    write_manifest(Manifest("toy", "", "", "", {}, {}, ("r", "g", "b"), tuple(cases)), tmp_path / "m.json")
    return tmp_path


def test_official_sets_are_kept_by_default_and_it_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_manifest(folder / "m.json")
    assert main(["dataset", "split", str(folder / "m.json")]) == 0
    assert read_manifest(folder / "m.json") == before
    streams = capsys.readouterr()
    assert streams.out.splitlines()[1:] == ["  train: 8 cases", "  val: 2 cases", "  test: 3 cases"]
    assert streams.err.splitlines() == [
        "note: 13 of 13 cases name no subject; each counts as a separate subject",
        "note: the manifest's test set (3 cases) was kept",
        "note: the manifest's val set (2 cases) was kept",
    ]


def test_folds_replace_the_validation_set_on_demand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "split", str(folder / "m.json"), "--folds", "2"]) == 1
    assert "--resplit val" in capsys.readouterr().err
    output = folder / "folds.json"
    assert main(["dataset", "split", str(folder / "m.json"), "--resplit", "val", "-o", str(output)]) == 0
    assert sorted({case.fold for case in read_manifest(output).cases if case.fold is not None}) == [0, 1, 2, 3, 4]
    assert "the manifest's val set (2 cases) was replaced" in capsys.readouterr().err


def test_shares(folder: Path) -> None:
    command = ["dataset", "split", str(folder / "m.json"), "--resplit", "all", "--test-share", "0.2"]
    assert main([*command, "--val-share", "0.2"]) == 0
    splits = [case.split for case in read_manifest(folder / "m.json").cases]
    assert (splits.count("test"), splits.count("val"), splits.count("train")) == (3, 2, 8)


def test_near_duplicates_of_test_images_leave_the_training_set(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(folder / "test_10.png") as image:
        image.save(folder / "copy.jpg", quality=80)
    shutil.move(folder / "copy.jpg", folder / "train_0.jpg")
    manifest = read_manifest(folder / "m.json")
    cases = (Case("train_0", "", ("train_0.jpg",)), *manifest.cases[1:])
    write_manifest(Manifest("toy", "", "", "", {}, {}, ("r", "g", "b"), cases), folder / "m.json")
    assert main(["dataset", "split", str(folder / "m.json"), "--near", str(folder)]) == 0
    assert [case.case_id for case in read_manifest(folder / "m.json").cases if case.split == "test"] == [
        "train_0",
        "test_10",
        "test_11",
        "test_12",
    ]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "note: 1 sets of near duplicates stay together (2 cases)"
    assert lines[-1] == "note: 1 train cases moved to test because they belong together with test cases"


def test_the_folder_of_near_duplicates_must_be_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "split", str(folder / "m.json"), "--near", str(folder / "none")]) == 1
    assert "none does not exist" in capsys.readouterr().err


def test_excluded_cases(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = folder / "ids.txt"
    ids.write_text("# late ones\ntrain_6\ntrain_7\nexclude: train_5\n")
    assert main(["dataset", "split", str(folder / "m.json"), "--named", f"time={ids}"]) == 0
    entry = {"description": "late ones", "val": ["train_6", "train_7"], "exclude": ["train_5"]}
    assert read_manifest(folder / "m.json").named_splits == {"time": entry}
    ids.write_text("train_6\nexclude: train_6\n")
    assert main(["dataset", "split", str(folder / "m.json"), "--named", f"time={ids}"]) == 1
    assert "'train_6' is both excluded from the split 'time' and in its validation set" in capsys.readouterr().err


def test_the_committed_lgg_manifest_follows_byte_for_byte(repository: Path, tmp_path: Path) -> None:
    source = repository / "data_manifests"
    output = tmp_path / "lgg.json"
    words = ["--folds", "5", "--seed", "2019", "--test-list", str(source / "lgg_test.txt")]
    named = ["--named", f"reference={source / 'lgg_reference.txt'}"]
    assert main(["dataset", "split", str(source / "lgg.json"), *words, *named, "-o", str(output)]) == 0
    assert output.read_bytes() == (source / "lgg.json").read_bytes()
