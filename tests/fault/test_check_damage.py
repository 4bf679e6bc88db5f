"""A checked dataset with one flipped bit is refused, whatever the format; a reader that breaks is a finding."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import load_datalist, write_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.digests import compute_sha256
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.issues import InputError

pytestmark = pytest.mark.fault

FORMATS = {
    ".tif": {},
    ".lzw.tif": {"compression": "tiff_lzw"},
    ".png": {},
    ".jpg": {"quality": 90},
    ".bmp": {},
}
ROWS, COLUMNS, FLIPS = 40, 48, 60


def make_dataset(root: Path, suffix: str, options: dict[str, object]) -> Manifest:
    """Write an image in the format under test, its mask, and their manifest."""
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(ROWS), np.arange(COLUMNS))[..., None] + rng.integers(0, 9, (ROWS, COLUMNS, 3))
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[5:20, 6:30] = 255
    root.mkdir()
    Image.fromarray(smooth.astype(np.uint8)).save(root / f"a{suffix}", **options)  # type: ignore[arg-type]
    Image.fromarray(mask).save(root / "a_mask.png")
    files = (f"a{suffix}", "a_mask.png")
    case = Case("a", "a", files[:1], files[1:], sha256={file: compute_sha256(root / file) for file in files})
    names = ("red", "green", "blue")
    return Manifest("x", "x", "x", "x", {0: "background", 1: "lesion"}, {0: 0, 255: 1}, names, (case,))


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_flipped_bit_is_found_at_the_default_level(tmp_path: Path, suffix: str) -> None:
    root = tmp_path / "data"
    manifest = make_dataset(root, suffix, FORMATS[suffix])
    assert not check_manifest(manifest, root).errors()
    file = root / f"a{suffix}"
    original = file.read_bytes()
    for position in np.random.default_rng(1).integers(0, 8 * len(original), FLIPS):
        data = bytearray(original)
        data[position // 8] ^= 1 << (position % 8)
        file.write_bytes(data)
        assert "checksum-mismatch" in {issue.code for issue in check_manifest(manifest, root).errors()}


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_cache_hides_no_flipped_bit(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.datasets.checks.cache._FRESH_NS", 0)
    root = tmp_path / "data"
    manifest = make_dataset(root, suffix, FORMATS[suffix])
    path = write_manifest(manifest, tmp_path / "m.json")
    file = root / f"a{suffix}"
    original, before = file.read_bytes(), file.stat()
    for position in np.random.default_rng(2).integers(0, 8 * len(original), 5):
        file.write_bytes(original)
        load_datalist(path, root, "all")
        data = bytearray(original)
        data[position // 8] ^= 1 << (position % 8)
        file.write_bytes(data)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(InputError, match="checksum-mismatch"):
            load_datalist(path, root, "all")


@pytest.mark.parametrize("suffix", FORMATS)
def test_damage_before_the_manifest_never_breaks_the_check(tmp_path: Path, suffix: str) -> None:
    """Without a checksum the reader sees the damage: it may find nothing, but it must not raise."""
    root = tmp_path / "data"
    manifest = make_dataset(root, suffix, FORMATS[suffix])
    bare = replace(manifest, cases=(replace(manifest.cases[0], sha256={}),))
    file = root / f"a{suffix}"
    original = file.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(FLIPS):
        data = bytearray(original[: rng.integers(1, len(original) + 1)] if rng.random() < 0.5 else original)
        for position in rng.integers(0, min(len(data), 200), rng.integers(1, 9)):
            data[position] = rng.integers(256)
        file.write_bytes(data)
        issues = check_manifest(bare, root, level="deep").issues
        assert all(issue.record and issue.path for issue in issues if issue.severity == "error")
        assert all("\n" not in issue.one_line() for issue in issues)


def raise_in_thread(error: BaseException) -> Callable[..., None]:
    def probe(*_: object) -> None:
        raise error

    return probe


@pytest.mark.parametrize("error", [ValueError("broken"), MemoryError(), RecursionError("deep"), AssertionError()])
def test_a_reader_that_breaks_is_a_finding_of_its_record(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    manifest = make_dataset(root, ".png", {})
    monkeypatch.setattr("pipeline.datasets.probes.raster.probe", raise_in_thread(error))
    issues = check_manifest(manifest, root, jobs=2).issues
    found = {(issue.code, issue.record, issue.path) for issue in issues if issue.severity == "error"}
    assert found == {("unreadable-file", "a", "a.png"), ("unreadable-file", "a", "a_mask.png")}
    assert type(error).__name__ in issues[-1].message


def test_no_memory_for_the_bytes_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    manifest = make_dataset(root, ".png", {})
    monkeypatch.setattr("pipeline.datasets.checks.inspection.read_stable_file", raise_in_thread(MemoryError()))
    errors = check_manifest(manifest, root).errors()
    assert {(issue.code, issue.message) for issue in errors} == {("unreadable-file", "no memory left")}
