"""The synthetic films look like the real ones to every reader: gold sparse and exact, silver dense, ERR_SEG wrong."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import read_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.phantoms import write_cells_phantom
from pipeline.issues import InputError

FRAMES = 10


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films of ten frames of 96 x 128; shared, so never changed."""
    return write_cells_phantom(tmp_path_factory.mktemp("cells"), frames=FRAMES, size=96).parent


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def hash_tree(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def compute_dice(pred: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(pred & truth) / max(1, np.count_nonzero(pred) + np.count_nonzero(truth))


def test_same_seed_same_bytes(phantom: Path, tmp_path: Path) -> None:
    write_cells_phantom(tmp_path / "again", frames=FRAMES, size=96)
    assert hash_tree(tmp_path / "again") == hash_tree(phantom)
    write_cells_phantom(tmp_path / "other", frames=FRAMES, size=96, seed=1)
    name = "PhC-C2DH-PHANTOM/01/t001.tif"
    assert hash_tree(tmp_path / "other")[name] != hash_tree(phantom)[name]


def test_two_manifests_with_the_same_test_frames(phantom: Path) -> None:
    gold, silver = (read_manifest(phantom / f"manifest{end}.json") for end in ("", "_silver"))
    parts = {split: [case for case in gold.cases if case.split == split] for split in ("train", "val", "test")}
    assert {split: len(cases) for split, cases in parts.items()} == {"train": 3, "val": 0, "test": 3}
    assert {case.facts["sequence"] for case in parts["test"]} == {"02"}
    assert [case for case in silver.cases if case.split == "test"] == parts["test"]
    assert sum(case.split == "train" for case in silver.cases) == FRAMES
    for manifest in (gold, silver):
        assert check_manifest(manifest, phantom / "PhC-C2DH-PHANTOM", level="deep").errors() == []


def test_truth_counts_every_cell(phantom: Path) -> None:
    films = json.loads((phantom / "truth.json").read_text())["films"]
    assert set(films) == {"01", "02"}
    for film, entry in films.items():
        for number in (1, 5, 9):
            ids, counts = np.unique(
                read(phantom / "PhC-C2DH-PHANTOM" / f"{film}_GT/SEG/man_seg{number:03d}.tif"), return_counts=True
            )
            told = entry["pixels_by_frame"][number]
            assert {str(cell): int(count) for cell, count in zip(ids, counts, strict=True)} == told
            assert len(told) >= 4


def test_silver_is_near_and_err_seg_is_far(phantom: Path) -> None:
    root = phantom / "PhC-C2DH-PHANTOM"
    for film in ("01", "02"):
        gold = read(root / f"{film}_GT/SEG/man_seg001.tif")
        silver = read(root / f"{film}_ST/SEG/man_seg001.tif")
        assert gold.dtype == silver.dtype == np.uint16
        assert 0.8 < compute_dice(silver > 0, gold > 0) < 0.99
        assert (silver[silver > 0] == gold[silver > 0]).all()
        assert compute_dice(read(root / f"{film}_ERR_SEG/mask001.tif") > 0, gold > 0) < 0.6


def test_frames_are_lzw_and_change_slowly(phantom: Path) -> None:
    root = phantom / "PhC-C2DH-PHANTOM"
    with Image.open(root / "01" / "t000.tif") as image:
        assert (image.size, image.mode, image.info["compression"]) == ((128, 96), "L", "tiff_lzw")
    masks = [read(root / f"01_ST/SEG/man_seg{number:03d}.tif") > 0 for number in range(FRAMES)]
    assert 0.85 < compute_dice(masks[0], masks[1]) < 1
    assert compute_dice(masks[0], masks[-1]) < compute_dice(masks[0], masks[1])


def test_no_threshold_finds_the_cells(phantom: Path) -> None:
    root = phantom / "PhC-C2DH-PHANTOM"
    for film in ("01", "02"):
        grey, cells = read(root / film / "t001.tif"), read(root / f"{film}_GT/SEG/man_seg001.tif") > 0
        assert max(compute_dice(grey < level, cells) for level in range(0, 256, 4)) < 0.8
        assert max(compute_dice(grey > level, cells) for level in range(0, 256, 4)) < 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 1}, "frames must be 2 to 999, got 1"),
        ({"size": 8}, "size must be 32 to 2048, got 8"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_refuses_impossible_sizes(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_cells_phantom(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []
