import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import Manifest, find_inputs, load_datalist, read_manifest, write_manifest
from pipeline.datasets.splits.splits import add_named_split
from pipeline.issues import InputError

ONE, TWO, THREE = "TCGA_CS_0001_20000101", "TCGA_DU_0002_20000102", "TCGA_HT_0003_20000103"


@pytest.fixture
def path(manifest: Manifest, tmp_path: Path) -> Path:
    """Manifest file: fold 0, fold 1 and a test case; the named split ``ref`` validates on cases 2 and 3."""
    one, two, three = manifest.cases
    cases = (replace(one, fold=0), replace(two, fold=1), replace(three, split="test"))
    return write_manifest(add_named_split(replace(manifest, cases=cases), "ref", [TWO, THREE]), tmp_path / "m.json")


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["case_id"] for item in items]


@pytest.mark.parametrize(
    ("split", "fold", "expected"),
    [
        ("train", 0, [TWO]),
        ("val", 0, [ONE]),
        ("train", 1, [ONE]),
        ("val", "1", [TWO]),
        ("test", 0, [THREE]),
        ("all", 0, [ONE, TWO, THREE]),
        ("train", None, [ONE, TWO]),
        ("train", "ref", [ONE]),
        ("val", "ref", [TWO, THREE]),
    ],
)
def test_selection(path: Path, kaggle: Path, split: Any, fold: Any, expected: list[str]) -> None:
    assert ids(load_datalist(path, kaggle, split, fold)) == expected


def test_excluded_cases_neither_train_nor_validate(manifest: Manifest, kaggle: Path, tmp_path: Path) -> None:
    path = write_manifest(add_named_split(manifest, "time", [THREE], "", [TWO]), tmp_path / "m.json")
    assert ids(load_datalist(path, kaggle, "train", "time")) == [ONE]
    assert ids(load_datalist(path, kaggle, "val", "time")) == [THREE]
    assert ids(load_datalist(path, kaggle, "all", "time")) == [ONE, TWO, THREE]
    assert ids(load_datalist(path, kaggle, "train", None)) == [ONE, TWO, THREE]


def test_fixed_splits_without_folds_are_kept(manifest: Manifest, kaggle: Path, tmp_path: Path) -> None:
    one, two, three = manifest.cases
    cases = (one, replace(two, split="val"), replace(three, split="test"))
    path = write_manifest(replace(manifest, cases=cases), tmp_path / "m.json")
    assert ids(load_datalist(path, kaggle, "train")) == [ONE]
    assert ids(load_datalist(path, kaggle, "val", 3)) == [TWO]


def test_items_hold_absolute_paths_in_order(path: Path, kaggle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kaggle.parent)
    (item,) = load_datalist(path, kaggle.name, "val", 0)
    assert item == {
        "case_id": ONE,
        "subject": "TCGA_CS_0001",
        "image": [str(kaggle / ONE / f"{ONE}_{number}.tif") for number in (1, 2, 3)],
        "label": [str(kaggle / ONE / f"{ONE}_{number}_mask.tif") for number in (1, 2, 3)],
    }


def test_cases_without_mask_have_no_label(manifest: Manifest, kaggle: Path, tmp_path: Path) -> None:
    path = write_manifest(replace(manifest, cases=(replace(manifest.cases[0], label=None),)), tmp_path / "m.json")
    (item,) = load_datalist(path, kaggle, "all")
    assert set(item) == {"case_id", "subject", "image"}


def test_repeat_lists_every_case_several_times(path: Path, kaggle: Path) -> None:
    assert ids(load_datalist(path, kaggle, "train", None, repeat=2)) == [ONE, ONE, TWO, TWO]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "trian"}, "split must be one of train, val, test, all, got 'trian'"),
        ({"fold": 7}, "manifest 'lgg' has no fold 7; folds: 0, 1; named splits: ref"),
        ({"fold": "reff"}, "manifest 'lgg' has no split named 'reff'; folds: 0, 1; named splits: ref"),
        ({"repeat": 0}, "repeat must be an integer from 1, got 0"),
        ({"repeat": True}, "repeat must be an integer from 1, got True"),
        ({"split": "val", "fold": None}, "no case is selected by split 'val' and fold None"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    path: Path, kaggle: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_datalist(path, kaggle, **{"split": "train", "fold": 0, **arguments})
    assert message in str(caught.value)


def told(path: Path, root: Path, split: Any = "all", **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_datalist(path, root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_names_the_source_and_the_phantom(path: Path, kaggle: Path, tmp_path: Path) -> None:
    line = told(path, tmp_path / "none")
    assert f"the dataset folder {tmp_path / 'none'} does not exist" in line
    assert "mateuszbuda/lgg-mri-segmentation" in line
    assert "python -m pipeline dataset phantom lgg OUT" in line
    (tmp_path / "empty").mkdir()
    assert "holds none of the 3 cases asked for" in told(path, tmp_path / "empty", check=False)
    assert f"did you mean {kaggle}?" in told(path, kaggle.parent)


def test_all_problems_are_counted_and_the_command_that_lists_them_is_named(path: Path, kaggle: Path) -> None:
    (kaggle / ONE / f"{ONE}_2_mask.tif").unlink()
    image = kaggle / TWO / f"{TWO}_1.tif"
    image.write_bytes(image.read_bytes()[:-1] + b"\x01")
    line = told(path, kaggle)
    assert line.startswith(f"missing-file {ONE}/{ONE}_2_mask.tif [{ONE}]: the file does not exist")
    assert "(and 1 more)" in line
    assert line.endswith(f"list all: python -m pipeline dataset check {path} --dataset_dir {kaggle} --deep")
    assert f"checksum-mismatch {TWO}/{TWO}_1.tif" in told(path, kaggle, "train", fold=0)
    assert len(load_datalist(path, kaggle, "all", check=False)) == 3


def test_only_the_cases_asked_for_must_be_there(path: Path, kaggle: Path) -> None:
    shutil.rmtree(kaggle / THREE)
    assert ids(load_datalist(path, kaggle, "train", None)) == [ONE, TWO]
    assert "missing-file" in told(path, kaggle, "val", fold="ref")
    assert ids(load_datalist(path, kaggle, "val", "ref", allow_missing=True)) == [TWO]


def test_a_patient_in_two_splits_stops_the_run(manifest: Manifest, kaggle: Path, tmp_path: Path) -> None:
    one, two, three = manifest.cases
    cases = (replace(one, fold=0), replace(two, fold=1, subject=" tcga_CS_0001"), replace(three, fold=1))
    path = write_manifest(replace(manifest, cases=cases), tmp_path / "m.json")
    line = told(path, kaggle)
    assert line.startswith("leak-patient")
    assert f"fold 0 ({ONE}), fold 1 ({TWO})" in line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "inputs"
    for patient, numbers in (("b", (1, 2, 10)), ("a", (1,))):
        (root / patient).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / patient / f"{patient}_{number}.tif")
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / patient / f"{patient}_{number}_mask.tif")
    return root


def test_find_inputs_in_a_folder_of_patients(folder: Path) -> None:
    (folder / ".hidden").mkdir()
    for name in ("._b_3.tif", ".DS_Store", "notes.txt", "b_1_pred.tif", "b_2_MASK.TIF"):
        (folder / "b" / name).write_bytes(b"x")
    assert find_inputs(folder) == [
        {"case_id": "a", "image": [str(folder / "a" / "a_1.tif")]},
        {"case_id": "b", "image": [str(folder / "b" / f"b_{number}.tif") for number in (1, 2, 10)]},
    ]


def test_find_inputs_takes_a_patient_or_a_slice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_inputs(folder / "b") == find_inputs(folder)[1:]
    monkeypatch.chdir(folder / "b")
    assert find_inputs("b_10.tif") == [{"case_id": "b_10", "image": [str(folder / "b" / "b_10.tif")]}]


def test_find_inputs_parts_stacks_that_share_a_folder(tmp_path: Path) -> None:
    for name in ("p_1.png", "p_2.png", "q_1.png", "3.png"):
        _write_slice(tmp_path / name)
    for name in ("p_1.png", "q_1.png"):
        _write_slice(tmp_path / "r" / name)
    names = [item["case_id"] for item in find_inputs(tmp_path)]
    top = tmp_path.name
    assert names == [top, f"{top}_p", f"{top}_q", "r_p", "r_q"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none", "no such file or folder"),
        (lambda folder: folder.parent, "no image in"),
        (lambda folder: Path(__file__), "is not an image: expected a name ending in .tif"),
    ],
)
def test_find_inputs_tells_in_one_line(folder: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_inputs(make(folder))


def test_find_inputs_tells_of_unreadable_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=f"cannot read {folder}: permission denied"):
        find_inputs(folder)


def test_a_tilde_is_the_home_folder(
    path: Path, kaggle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_datalist(path, "~/kaggle_3m", "all") == load_datalist(path, kaggle, "all")
    assert find_inputs("~/inputs") == find_inputs(folder)


def _write_slice(path: Path, shape: tuple[int, ...] = (8, 10, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, 7, np.uint8)).save(path)
    return path


def test_find_inputs_names_a_truncated_slice(tmp_path: Path) -> None:
    for k in (1, 2, 3):
        _write_slice(tmp_path / "p" / f"p_{k}.tif")
    broken = tmp_path / "p/p_2.tif"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(InputError) as caught:
        find_inputs(tmp_path / "p")
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_find_inputs_names_a_slice_of_another_size_and_counts_the_rest(tmp_path: Path) -> None:
    _write_slice(tmp_path / "p/p_1.tif")
    for k in (2, 3):
        _write_slice(tmp_path / "p" / f"p_{k}.tif", (10, 8, 3))
    with pytest.raises(InputError, match=r"p_2\.tif: is \(10, 8\) x 3, but .*p_1\.tif is \(8, 10\).*1 more"):
        find_inputs(tmp_path / "p")


def test_find_inputs_names_an_image_with_other_channels(tmp_path: Path) -> None:
    grey = _write_slice(tmp_path / "p_1.png", (8, 10))
    assert find_inputs(grey)[0]["image"] == [str(grey)]
    with pytest.raises(InputError, match="has 1 channels, expected 3"):
        find_inputs(grey, channels=3)


def test_pixels_are_read_even_where_the_checksum_is_right(path: Path, kaggle: Path, manifest: Manifest) -> None:
    label = kaggle / manifest.cases[1].label[0]
    pixels = np.asarray(Image.open(label)).copy()
    pixels[0, 0] = 7
    Image.fromarray(pixels).save(label)
    digest = hashlib.sha256(label.read_bytes()).hexdigest()
    name = manifest.cases[1].label[0]
    stored = read_manifest(path)
    cases = tuple(
        replace(case, sha256={**case.sha256, name: digest}) if name in case.files() else case for case in stored.cases
    )
    write_manifest(replace(stored, cases=cases), path)
    with pytest.raises(InputError, match=r"label-values.*7") as caught:
        load_datalist(path, kaggle, "train", 0)
    assert "\n" not in str(caught.value)
