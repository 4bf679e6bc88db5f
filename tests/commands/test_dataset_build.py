"""``dataset build`` and ``dataset split``: nothing is overwritten in silence, and printed commands can be typed."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.commands.cli import main
from pipeline.datasets import load_datalist
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.issues import InputError

AWKWARD = ("user@host", "T1,T2", "no#3", "50%done", "Müller, Ärzte (2)", "$scratch", "a@@b", "2024", "a.json#3", "it's")


def write_data(root: Path, number: int = 4) -> Path:
    for index in range(number):
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        picture = np.random.default_rng(index).integers(0, 200, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "images" / f"a{index}.png")
        mask = np.zeros((20, 30), np.uint8)
        mask[3:9, 4 : 8 + index] = 255
        Image.fromarray(mask).save(root / "masks" / f"a{index}.png")
    return root


def build(root: Path, manifest: Path, *options: str) -> int:
    return main(["dataset", "build", "folders", str(root), "-o", str(manifest), *options])


def test_an_equal_manifest_may_be_built_again(tmp_path: Path) -> None:
    root, manifest = write_data(tmp_path / "data"), tmp_path / "m.json"
    assert build(root, manifest) == build(root, manifest) == 0


def test_another_manifest_is_kept_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, manifest = write_data(tmp_path / "data"), tmp_path / "m.json"
    assert build(root, manifest) == 0
    before = manifest.read_bytes()
    write_data(root, 5)
    capsys.readouterr()
    assert build(root, manifest) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {manifest} exists and differs; nothing was written; --overwrite replaces it, or choose another -o"
    )
    assert manifest.read_bytes() == before
    assert build(root, manifest, "--overwrite") == 0
    assert len(read_manifest(manifest).cases) == 5


@pytest.mark.parametrize("split", [True, False], ids=["folds", "no manifest"])
def test_what_a_build_would_destroy_is_refused_before_the_data_are_read(
    split: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, manifest = write_data(tmp_path / "data"), tmp_path / "m.json"
    assert build(root, manifest) == 0
    if split:
        assert main(["dataset", "split", str(manifest), "--folds", "2"]) == 0
    else:
        manifest.write_text('{"weights": [1, 2]}')
    before = manifest.read_bytes()
    capsys.readouterr()
    assert build(tmp_path / "does not exist", manifest) == 1
    what = "holds folds or named splits, which would be lost" if split else "is not a manifest"
    assert f"{manifest} exists and {what}; nothing was written; --overwrite" in capsys.readouterr().err
    assert manifest.read_bytes() == before
    assert build(root, manifest, "--overwrite") == 0
    assert {case.fold for case in read_manifest(manifest).cases} == {None}


def test_a_split_has_the_same_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, manifest, other = write_data(tmp_path / "data"), tmp_path / "m.json", tmp_path / "other.json"
    assert build(root, manifest) == 0
    words = ["dataset", "split", str(manifest), "--folds", "2"]
    assert main([*words, "-o", str(other)]) == main([*words, "-o", str(other)]) == 0
    before = other.read_bytes()
    capsys.readouterr()
    assert main([*words, "--seed", "5", "-o", str(other)]) == 1
    assert f"{other} exists and differs; nothing was written; --overwrite" in capsys.readouterr().err
    assert other.read_bytes() == before
    assert main([*words, "--seed", "5", "-o", str(other), "--overwrite"]) == 0
    # Its own manifest is what a split is for.
    assert main(words) == main([*words, "--seed", "1", "-o", str(manifest)]) == 0


@pytest.mark.parametrize("name", AWKWARD)
def test_folders_of_shared_drives_and_the_commands_that_name_them(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, manifest = write_data(tmp_path / name / name), tmp_path / name / f"{name}.json"
    assert build(root, manifest) == 0
    lines = capsys.readouterr().out.splitlines()
    for start in ("next: ", "then: "):
        (line,) = [line.removeprefix(start) for line in lines if line.startswith(start)]
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "pipeline"]
        assert main([*words[3:]]) == 0
    items = load_datalist(manifest, root, "train")
    assert all(Path(file).is_file() for item in items for file in (*item["image"], *item["label"]))
    Image.new("L", (20, 30)).save(root / "masks" / "a0.png")
    with pytest.raises(InputError) as caught:
        load_datalist(manifest, root, "all")
    words = shlex.split(str(caught.value).split("list all: ")[1])
    assert main(words[3:]) == 1
