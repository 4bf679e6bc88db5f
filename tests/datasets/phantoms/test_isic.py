"""The synthetic ISIC set looks like the real one to every reader, and is neither empty nor trivial."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import Manifest, read_manifest
from pipeline.datasets.phantoms import write_isic_phantom
from pipeline.issues import InputError


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of 96 pixels; shared, so never changed."""
    return write_isic_phantom(tmp_path_factory.mktemp("isic"), images=12, size=96).parent


@pytest.fixture(scope="module")
def manifest(phantom: Path) -> Manifest:
    return read_manifest(phantom / "manifest.json")


def hash_tree(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_pairs(phantom: Path, manifest: Manifest) -> list[tuple[np.ndarray, np.ndarray]]:
    root = phantom / "isic2018"
    return [
        (np.asarray(Image.open(root / case.image[0])), np.asarray(Image.open(root / (case.label or ("",))[0])) > 0)
        for case in manifest.cases
    ]


def test_same_seed_same_bytes(phantom: Path, tmp_path: Path) -> None:
    write_isic_phantom(tmp_path / "again", images=12, size=96)
    assert hash_tree(tmp_path / "again") == hash_tree(phantom)
    write_isic_phantom(tmp_path / "other", images=12, size=96, seed=1)
    ours, others = hash_tree(phantom), hash_tree(tmp_path / "other")
    assert not {ours[name] for name in ours if name.endswith(".jpg")} & set(others.values())


def test_truth_counts_every_pixel(phantom: Path, manifest: Manifest) -> None:
    truth = json.loads((phantom / "truth.json").read_text())["images"]
    assert sorted(truth) == sorted(case.case_id for case in manifest.cases)
    for case in manifest.cases:
        entry = truth[case.case_id]
        assert [entry["shape"], entry["pixels"]] == [case.facts["shape"], case.facts["foreground"]]


def test_official_split_is_kept_and_sizes_vary(manifest: Manifest) -> None:
    assert Counter(case.split for case in manifest.cases) == {"train": 6, "val": 3, "test": 3}
    assert len({tuple(case.facts["shape"]) for case in manifest.cases}) > 1
    assert all(max(case.facts["shape"]) == 96 for case in manifest.cases)


def test_lesions_are_darker_than_the_skin_but_no_threshold_finds_them(phantom: Path, manifest: Manifest) -> None:
    scores = []
    for image, mask in read_pairs(phantom, manifest):
        grey = image.mean(axis=2)
        assert np.median(grey[mask]) < 0.93 * np.median(grey[~mask])
        assert 0.01 < mask.mean() < 0.4
        dice = [2 * ((grey < t) & mask).sum() / ((grey < t).sum() + mask.sum()) for t in range(20, 240, 5)]
        scores.append(max(dice))
    assert np.mean(scores) < 0.95
    assert min(scores) < 0.8


def test_smallest_set_has_all_splits(tmp_path: Path) -> None:
    cases = read_manifest(write_isic_phantom(tmp_path, images=3, size=32)).cases
    assert {case.split for case in cases} == {"train", "val", "test"}
    assert all(case.facts["foreground"] > 0 for case in cases)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 2}, "images must be 3 to 9999, got 2"),
        ({"size": 8}, "size must be 32 to 4096, got 8"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_refuses_impossible_sizes(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_isic_phantom(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_refuses_to_overwrite_and_names_folders_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "isic2018").mkdir()
    with pytest.raises(InputError, match="isic2018 exists already; remove it or choose another folder"):
        write_isic_phantom(tmp_path, images=3, size=32)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make the folder .*: Not a directory"):
        write_isic_phantom(tmp_path / "file", images=3, size=32)
