"""The synthetic LGG set looks like the real one to every reader, and is neither empty nor trivial."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import Case, load_datalist, read_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.phantoms import write_lgg_phantom
from pipeline.issues import InputError


def hash_tree(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_stack(root: Path, paths: tuple[str, ...] | None) -> np.ndarray:
    return np.stack([np.asarray(Image.open(root / path)) for path in paths or ()])


def read_case(root: Path, case: Case) -> tuple[np.ndarray, np.ndarray]:
    return read_stack(root, case.image), read_stack(root, case.label) > 0


def compute_dice(pred: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(pred & truth) / max(1, np.count_nonzero(pred) + np.count_nonzero(truth))


def test_same_seed_same_bytes(lgg_phantom: Path, tmp_path: Path) -> None:
    write_lgg_phantom(tmp_path / "again", patients=6, size=64)
    assert hash_tree(tmp_path / "again") == hash_tree(lgg_phantom)


def test_other_seed_other_patients(lgg_phantom: Path, tmp_path: Path) -> None:
    write_lgg_phantom(tmp_path / "other", patients=6, size=64, seed=1)
    images = "**/*_1.tif"
    first = {path.read_bytes() for path in lgg_phantom.glob(images)}
    assert first.isdisjoint(path.read_bytes() for path in (tmp_path / "other").glob(images))


def test_more_patients_keep_the_first_ones(lgg_phantom: Path, tmp_path: Path) -> None:
    write_lgg_phantom(tmp_path / "more", patients=7, size=64)
    few, more = hash_tree(lgg_phantom), hash_tree(tmp_path / "more")
    images = {name for name in few if name.endswith(".tif")}
    assert images == {name for name in images if more[name] == few[name]}


def test_is_read_back_by_the_layout_reader(lgg_phantom: Path) -> None:
    manifest = read_manifest(lgg_phantom / "manifest.json")
    again = read_layout("lgg", lgg_phantom / "kaggle_3m").manifest
    assert [(case.case_id, case.image, case.label) for case in again.cases] == [
        (case.case_id, case.image, case.label) for case in manifest.cases
    ]
    assert len(manifest.cases) == 6
    assert {case.facts["group"] for case in manifest.cases} == {"CS", "DU", "FG", "HT"}
    assert check_manifest(manifest, lgg_phantom / "kaggle_3m").issues == ()


def test_files_are_as_in_the_real_set(tmp_path: Path) -> None:
    root = write_lgg_phantom(tmp_path, patients=3).parent / "kaggle_3m"
    patient = next(path for path in sorted(root.iterdir()) if path.is_dir())
    assert (root / "data.csv").read_text().startswith("Patient,RNASeqCluster,")
    assert (patient / f"{patient.name}_1.tif").is_file()
    for path in patient.iterdir():
        with Image.open(path) as image:
            assert image.size == (256, 256)
            assert image.info["compression"] == "raw"
            assert image.mode == ("L" if path.stem.endswith("_mask") else "RGB")


def test_every_patient_has_a_lesion_between_empty_ends(lgg_phantom: Path) -> None:
    manifest = read_manifest(lgg_phantom / "manifest.json")
    truth = json.loads((lgg_phantom / "truth.json").read_text())["patients"]
    counts = set()
    for case in manifest.cases:
        image, mask = read_case(lgg_phantom / "kaggle_3m", case)
        raw = read_stack(lgg_phantom / "kaggle_3m", case.label)
        assert set(np.unique(raw)) == {0, 255}
        assert image.shape == (*mask.shape, 3)
        with_tumour = np.flatnonzero(mask.any(axis=(1, 2)))
        assert len(with_tumour) >= 3
        assert not mask[[0, -1]].any()
        assert np.count_nonzero(mask) == truth[case.case_id]["voxels"] == case.facts["foreground"]
        assert len(mask) == truth[case.case_id]["slices"]
        assert truth[case.case_id]["lesions"][0]["slices"][0] >= with_tumour[0] + 1
        counts.add(len(mask))
    assert min(counts) >= 8
    assert max(counts) <= 20
    assert len(counts) > 2


def test_splits_are_by_patient_and_not_empty(lgg_phantom: Path) -> None:
    manifest, folder = lgg_phantom / "manifest.json", lgg_phantom / "kaggle_3m"
    subjects = [
        {item["subject"] for item in load_datalist(manifest, folder, split)} for split in ("train", "val", "test")
    ]
    assert all(subjects)
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == 6


def test_smallest_set_has_all_splits(tmp_path: Path) -> None:
    manifest = write_lgg_phantom(tmp_path, patients=3, size=32)
    for split in ("train", "val", "test"):
        assert len(load_datalist(manifest, tmp_path / "kaggle_3m", split)) == 1


def test_flair_threshold_is_not_enough(lgg_phantom: Path) -> None:
    """Even the best threshold, chosen with the truth at hand and for each patient, must not solve the task."""
    scores = []
    for case in read_manifest(lgg_phantom / "manifest.json").cases:
        image, mask = read_case(lgg_phantom / "kaggle_3m", case)
        scores.append(max(compute_dice(image[..., 1] > level, mask) for level in range(0, 255, 5)))
    assert max(scores) < 0.8
    assert np.mean(scores) < 0.6


def test_lesion_is_bright_in_flair_and_dark_before_contrast(lgg_phantom: Path) -> None:
    for case in read_manifest(lgg_phantom / "manifest.json").cases:
        image, mask = read_case(lgg_phantom / "kaggle_3m", case)
        # The brain around it, without the dark background and the bright scalp.
        height, width = mask.shape[1:]
        middle = np.zeros_like(mask)
        middle[:, height // 3 : -height // 3, width // 3 : -width // 3] = True
        around = middle & mask.any(axis=(1, 2))[:, None, None] & ~mask
        pre, flair = (np.median(image[..., c][mask]) / np.median(image[..., c][around]) for c in (0, 1))
        assert flair > 1.2
        assert pre < 0.95


def test_some_patients_lack_a_sequence(tmp_path: Path) -> None:
    manifest = read_manifest(write_lgg_phantom(tmp_path, patients=10, size=32))
    copied = []
    for case in manifest.cases:
        image, _ = read_case(tmp_path / "kaggle_3m", case)
        copied += [channel for channel in (0, 2) if (image[..., channel] == image[..., 1]).all()]
    assert sorted(copied) == [0, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patients": 2}, "patients must be 3 to 999, got 2"),
        ({"size": 8}, "size must be 32 to 1024, got 8"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_refuses_impossible_sizes(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_lgg_phantom(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_refuses_to_overwrite(tmp_path: Path) -> None:
    write_lgg_phantom(tmp_path, patients=3, size=32)
    with pytest.raises(InputError, match="kaggle_3m exists already; remove it or choose another folder"):
        write_lgg_phantom(tmp_path, patients=3, size=32)


def test_names_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make the folder .*: Not a directory"):
        write_lgg_phantom(tmp_path / "file", patients=3, size=32)
