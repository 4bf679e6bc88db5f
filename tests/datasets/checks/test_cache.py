"""The cache of file facts is used only for files that cannot have changed, and never breaks a check."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import Manifest, load_datalist, probes, write_manifest
from pipeline.datasets.checks.cache import Entry, FileCache, find_cache_file
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.files import take_state
from pipeline.datasets.probes import Content, Probe
from pipeline.datasets.probes.fingerprints import Fingerprint
from pipeline.issues import InputError

PIXELS = 10**6


@pytest.fixture(autouse=True)
def _old_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take files that were just written for old ones, and give each test a cache of its own."""
    monkeypatch.setattr("pipeline.datasets.checks.cache._FRESH_NS", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def path(manifest: Manifest, tmp_path: Path) -> Path:
    cases = tuple(replace(case, fold=index) for index, case in enumerate(manifest.cases))
    return write_manifest(replace(manifest, cases=cases), tmp_path / "m.json")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read from now on."""
    from pipeline.datasets.checks import inspection

    names: list[str] = []
    original = inspection.read_stable_file

    def read(file: Path) -> Any:
        names.append(file.name)
        return original(file)

    monkeypatch.setattr(inspection, "read_stable_file", read)
    return names


def test_the_second_training_reads_no_file(path: Path, kaggle: Path, reads: list[str]) -> None:
    first = load_datalist(path, kaggle, "all")
    assert len(reads) == 18
    assert load_datalist(path, kaggle, "all") == first
    assert load_datalist(path, kaggle, "train", 0)
    assert len(reads) == 18


def test_only_new_files_are_read(path: Path, kaggle: Path, reads: list[str]) -> None:
    load_datalist(path, kaggle, "val", 0)
    load_datalist(path, kaggle, "all")
    assert len(reads) == 18
    file = kaggle / "TCGA_CS_0001_20000101/TCGA_CS_0001_20000101_1.tif"
    os.utime(file)
    load_datalist(path, kaggle, "all")
    assert reads[18:] == [file.name]


def test_the_command_always_reads_and_renews(
    path: Path, kaggle: Path, manifest: Manifest, reads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.commands.cli import main

    words = ["dataset", "check", str(path), "--dataset_dir", str(kaggle), "--deep"]
    for number in (1, 2):
        assert main(words) == 0
        assert len(reads) == 18 * number
    assert main([*words, "--cached"]) == 0
    assert main([*words[:-1], "--cached"]) == 0
    load_datalist(path, kaggle, "all")
    assert len(reads) == 36
    # A check that reads headers only does not make the cache forget the pixels.
    assert main(words[:-1]) == 0
    assert len(reads) == 54
    load_datalist(path, kaggle, "all")
    assert len(reads) == 54
    capsys.readouterr()


def test_rot_that_changes_no_time_is_found_by_the_command(path: Path, kaggle: Path, manifest: Manifest) -> None:
    load_datalist(path, kaggle, "all")
    file = manifest.cases[0].image[0]
    cache = FileCache(kaggle)
    cache._files[file]["sha256"] = "0" * 64  # as if the bytes had been others when they were read
    cache._changed = cache._files
    cache.save()
    assert check_manifest(manifest, kaggle, cache=FileCache(kaggle)).issues == ()
    # The cache contradicts the manifest, so the file is read even where the cache is trusted.
    assert check_manifest(manifest, kaggle, cache=FileCache(kaggle), trust_cache=True).issues == ()


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-5] ^= 4
    file.write_bytes(data)


def swap(file: Path) -> None:
    """Put a copy of another inode with the same times in its place."""
    copy = file.with_suffix(".new")
    copy.write_bytes(file.read_bytes())
    flip(copy)
    os.replace(copy, file)


@pytest.mark.parametrize("damage", [flip, swap])
def test_a_change_is_found_though_its_time_is_restored(
    path: Path, kaggle: Path, manifest: Manifest, damage: Callable[[Path], None]
) -> None:
    load_datalist(path, kaggle, "all")
    for name in (manifest.cases[0].image[1], (manifest.cases[1].label or ())[0]):
        before = (kaggle / name).stat()
        damage(kaggle / name)
        os.utime(kaggle / name, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (kaggle / name).stat().st_mtime_ns == before.st_mtime_ns
        with pytest.raises(InputError, match="checksum-mismatch"):
            load_datalist(path, kaggle, "all")


def test_errors_are_found_again_and_again(path: Path, kaggle: Path, manifest: Manifest, reads: list[str]) -> None:
    flip(kaggle / manifest.cases[0].image[0])
    for _ in range(2):
        with pytest.raises(InputError, match="checksum-mismatch"):
            load_datalist(path, kaggle, "all")
    # The two sound cases were remembered, the broken one is read whole.
    assert len(reads) == 18 + 6


def test_warnings_are_found_again_without_reading(kaggle: Path, manifest: Manifest, reads: list[str]) -> None:
    cases = tuple(replace(case, label=None, facts={}) for case in manifest.cases)
    flat = kaggle / cases[0].image[0]
    Image.fromarray(np.full((24, 32, 3), 7, np.uint8)).save(flat)
    cases = (replace(cases[0], image=cases[0].image[:1], sha256={}), *cases[1:])
    changed = replace(manifest, cases=cases)
    for _ in range(2):
        report = check_manifest(changed, kaggle, level="deep", cache=FileCache(kaggle), trust_cache=True)
        assert "constant-image" in {issue.code for issue in report.issues}
    assert len(reads) == 7


def test_another_manifest_is_checked_on_the_same_facts(
    path: Path, kaggle: Path, manifest: Manifest, reads: list[str]
) -> None:
    load_datalist(path, kaggle, "all")
    write_manifest(replace(manifest, mask_values={0: 0, 1: 1}), path)
    with pytest.raises(InputError, match=r"label-values .* holds 255"):
        load_datalist(path, kaggle, "all")
    assert len(reads) == 18


def test_the_sha256_of_another_manifest_is_compared(path: Path, kaggle: Path, manifest: Manifest) -> None:
    load_datalist(path, kaggle, "all")
    first = manifest.cases[0]
    wrong = replace(first, sha256={**first.sha256, first.image[0]: "0" * 64})
    write_manifest(replace(manifest, cases=(wrong, *manifest.cases[1:])), path)
    with pytest.raises(InputError, match=f"checksum-mismatch {first.image[0]}"):
        load_datalist(path, kaggle, "all")


def test_check_false_neither_reads_nor_writes(path: Path, kaggle: Path, tmp_path: Path, reads: list[str]) -> None:
    load_datalist(path, kaggle, "all", check=False)
    assert reads == []
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"version": "0", "files": {}}',
        b"[" * 100_000,
        lambda good: good[: len(good) // 2],
        lambda good: good.replace(b'"shape"', b'"form"'),
        lambda good: good.replace(b'"state":[', b'"state":[7,'),
        lambda good: json.dumps({**json.loads(good), "files": 3}).encode(),
        lambda good: json.dumps({**json.loads(good), "files": dict.fromkeys(json.loads(good)["files"], 3)}).encode(),
        lambda good: good.replace(b'"content":{', b'"content":{"x":1,'),
        lambda good: good.replace(b'"thumbnail":"', b'"thumbnail":"="'),
    ],
)
def test_a_damaged_cache_is_ignored(
    path: Path, kaggle: Path, content: bytes | Callable[[bytes], bytes], reads: list[str]
) -> None:
    expected = load_datalist(path, kaggle, "all")
    file = find_cache_file(kaggle)
    assert file is not None
    file.write_bytes(content if isinstance(content, bytes) else content(file.read_bytes()))
    assert load_datalist(path, kaggle, "all") == expected
    load_datalist(path, kaggle, "all")
    assert len(reads) <= 36


def test_a_cache_that_cannot_be_written_is_not_an_error(
    path: Path, kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    (tmp_path / "cache").write_bytes(b"a file, not a folder")
    load_datalist(path, kaggle, "all")
    load_datalist(path, kaggle, "all")
    assert len(reads) == 36
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)
    assert find_cache_file(kaggle) is None
    load_datalist(path, kaggle, "all")
    assert len(reads) == 54


def test_the_cache_lies_in_the_home_folder_by_default(
    kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    file = find_cache_file(kaggle)
    assert file is not None
    assert file.parent == tmp_path / ".cache/segmentation-pipeline/checks"
    (tmp_path / "link").symlink_to(kaggle)
    assert find_cache_file(tmp_path / "link") == file


def test_a_file_that_was_just_written_is_not_remembered(
    path: Path, kaggle: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.datasets.checks.cache._FRESH_NS", 3600 * 10**9)
    load_datalist(path, kaggle, "all")
    load_datalist(path, kaggle, "all")
    assert len(reads) == 36


CONTENT = Content(-1.5, 9.0, 0, {0.0: 3, 255.0: 1}, (), "ab", Fingerprint(b"\x00\x01" * 1024, True))
AFFINE = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
PROBE = Probe(
    "NIfTI", (4, 5, 6), 1, 1, CONTENT, "int16", (1.0, 1.0, 2.5), AFFINE, {"mode": "L", "palette": ["#000000"]}
)


def test_a_probe_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.nii"
    file.write_bytes(b"x")
    state = take_state(file.stat())
    cache = FileCache(tmp_path)
    cache.store("a.nii", state, Entry("0" * 64, PROBE), is_mask=False)
    cache.save()
    options = {"is_mask": False, "decoded": True, "max_pixels": PIXELS}
    assert FileCache(tmp_path).find("a.nii", state, **options) == Entry("0" * 64, PROBE)
    header = FileCache(tmp_path).find("a.nii", state, **{**options, "decoded": False})
    assert header == Entry("0" * 64, replace(PROBE, content=None))
    for other in ({"is_mask": True}, {"max_pixels": 100}):
        assert FileCache(tmp_path).find("a.nii", state, **{**options, **other}) is None
    for index in range(4):
        changed = tuple(value + (place == index) for place, value in enumerate(state))
        assert FileCache(tmp_path).find("a.nii", changed, **options) is None  # type: ignore[arg-type]
    assert FileCache(tmp_path).find("b.nii", state, **options) is None


def test_a_remembered_file_has_the_limit_of_its_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.nii"
    file.write_bytes(b"x")
    state = take_state(file.stat())
    cache = FileCache(tmp_path)
    monkeypatch.setattr(probes, "MAX_PIXELS", 100)
    for name, fits in (("NIfTI", True), ("TIFF", False)):
        cache.drop("a.nii")
        cache.store("a.nii", state, Entry("0" * 64, replace(PROBE, format=name)), is_mask=False)
        found = cache.find("a.nii", state, is_mask=False, decoded=True, max_pixels=None)
        assert (found is not None) == fits


def test_limits_hold_for_remembered_files_too(kaggle: Path, manifest: Manifest) -> None:
    assert check_manifest(manifest, kaggle, level="deep", cache=FileCache(kaggle)).issues == ()
    report = check_manifest(
        manifest, kaggle, level="deep", cache=FileCache(kaggle), trust_cache=True, options=CheckOptions(max_pixels=99)
    )
    assert {issue.code for issue in report.issues} == {"too-large"}


def test_runs_at_the_same_time_leave_a_whole_cache(path: Path, kaggle: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pipeline.datasets.checks.cache as c\n"
        "from pipeline.datasets import load_datalist\nc._FRESH_NS = 0\n"
        "for _ in range(6):\n load_datalist(sys.argv[1], sys.argv[2], 'val', int(sys.argv[3]))\n c.FileCache.find = "
        "lambda *a, **k: None\n"
    )
    command = [sys.executable, "-c", code, str(path), str(kaggle)]
    runs = [subprocess.Popen([*command, str(fold)]) for fold in (0, 1, 2)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    file = find_cache_file(kaggle)
    assert file is not None
    assert set(json.loads(file.read_bytes())) == {"version", "files"}
    assert [other.name for other in file.parent.iterdir()] == [file.name]
