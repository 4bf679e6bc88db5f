"""The synthetic ultrasound set has both kinds of lesion in every part, exact masks, and no trivial solution."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import Manifest, read_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.phantoms import write_folders_phantom
from pipeline.issues import InputError


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of 96 x 120; shared, so never changed."""
    return write_folders_phantom(tmp_path_factory.mktemp("folders"), images=12, size=96).parent


@pytest.fixture(scope="module")
def manifest(phantom: Path) -> Manifest:
    return read_manifest(phantom / "manifest.json")


def hash_tree(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes(phantom: Path, tmp_path: Path) -> None:
    write_folders_phantom(tmp_path / "again", images=12, size=96)
    assert hash_tree(tmp_path / "again") == hash_tree(phantom)
    write_folders_phantom(tmp_path / "other", images=12, size=96, seed=1)
    ours, others = hash_tree(phantom), hash_tree(tmp_path / "other")
    assert not {ours[name] for name in ours if "/images/" in name} & set(others.values())


def test_truth_counts_every_pixel(phantom: Path, manifest: Manifest) -> None:
    truth = json.loads((phantom / "truth.json").read_text())["images"]
    assert sorted(truth) == sorted(case.case_id for case in manifest.cases)
    for case in manifest.cases:
        pixels = truth[case.case_id]["pixels"]
        assert case.facts["foreground"] == sum(pixels.values()) > 0
        voxels = case.facts["voxels"]
        assert {"cyst": voxels.get("1", 0), "nodule": voxels.get("2", 0)} == pixels


def test_every_part_has_both_labels(manifest: Manifest) -> None:
    assert Counter(case.split for case in manifest.cases) == {"train": 6, "val": 3, "test": 3}
    assert manifest.labels == {0: "background", 1: "cyst", 2: "nodule"}
    for split in ("train", "val", "test"):
        found = {label for case in manifest.cases if case.split == split for label in case.facts["voxels"]}
        assert found >= {"1", "2"}


def test_values_are_read_off_the_smallest_set(tmp_path: Path) -> None:
    write_folders_phantom(tmp_path, images=3, size=32)
    manifest = read_layout("folders", tmp_path / "dataset").manifest
    assert dict(manifest.mask_values) == {0: 0, 1: 1, 2: 2}
    assert {case.split for case in manifest.cases} == {"train", "val", "test"}


def test_no_threshold_finds_the_lesions(phantom: Path, manifest: Manifest) -> None:
    scores = []
    for case in manifest.cases:
        grey = np.asarray(Image.open(phantom / "dataset" / case.image[0]))
        mask = np.asarray(Image.open(phantom / "dataset" / (case.label or ("",))[0])) > 0
        assert np.median(grey[mask]) < 0.9 * np.median(grey[~mask])
        scores.append(max(2 * ((grey < t) & mask).sum() / ((grey < t).sum() + mask.sum()) for t in range(10, 250, 5)))
    assert np.mean(scores) < 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 2}, "images must be 3 to 9999, got 2"),
        ({"size": 8}, "size must be 32 to 2048, got 8"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_refuses_impossible_sizes(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_folders_phantom(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []
