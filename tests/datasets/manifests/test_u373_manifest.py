"""The committed manifests of PhC-C2DH-U373: film 01 trains, film 02 tests on gold, one divides film 01 in time."""

from collections import Counter
from pathlib import Path

import pytest

from pipeline.datasets import Manifest, load_datalist, read_manifest
from pipeline.datasets.checks.integrity import MANIFEST_CHECKS, check_manifest
from pipeline.datasets.datalist import select_cases
from pipeline.datasets.digests import read_checksums
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest_file import dump_manifest
from pipeline.datasets.splits.splits import add_named_split, read_id_list, read_named_split, split_manifest

MASKS = {"u373": "gold", "u373_silver": "01=silver,02=gold", "u373_time": "01=gold-else-silver,02=gold"}
TRAINING = {"u373": 15, "u373_silver": 115, "u373_time": 115}
# Dividing a film is a warning where frames are left out between its parts.
WARNINGS = {"u373": [], "u373_silver": [], "u373_time": [("leak-time", "warning")]}
GOLD = {1, 5, 6, 7, 21, 49, 59, 67, 72, 75, 92, 96, 100, 102, 112}  # frames of film 01


@pytest.fixture(scope="module", params=MASKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def manifest(name: str, repository: Path) -> Manifest:
    return read_manifest(repository / "data_manifests" / f"{name}.json")


def test_films_are_not_divided(name: str, manifest: Manifest) -> None:
    counts = Counter((case.split, case.subject) for case in manifest.cases)
    assert counts == {("train", "PhC-C2DH-U373/01"): TRAINING[name], ("test", "PhC-C2DH-U373/02"): 19}
    issues = [issue for check in MANIFEST_CHECKS for issue in check(manifest)]
    assert [(issue.code, issue.severity) for issue in issues] == WARNINGS[name]


def test_masks_are_cells_and_scored_ones_are_gold(name: str, manifest: Manifest) -> None:
    assert manifest.mask_type == "instance"
    for case in manifest.cases:
        assert case.label is not None
        is_silver = case.split == "train" and (
            name == "u373_silver" or (name == "u373_time" and case.facts["frame"] not in GOLD)
        )
        folder = "01_ST" if is_silver else f"{case.facts['sequence']}_GT"
        assert case.image[0] == f"{case.facts['sequence']}/t{case.facts['frame']:03d}.tif"
        assert case.label[0] == f"{folder}/SEG/man_seg{case.facts['frame']:03d}.tif"
        assert set(case.sha256) == set(case.files())


def test_test_frames_were_not_read(manifest: Manifest) -> None:
    assert all("foreground" not in case.facts for case in manifest.cases if case.split == "test")


def test_all_manifests_test_on_the_same_frames(repository: Path) -> None:
    gold, *others = (read_manifest(repository / "data_manifests" / f"{name}.json") for name in MASKS)
    assert {case.facts["frame"] for case in gold.cases if case.split == "train"} == GOLD
    for other in others:
        assert [case for case in gold.cases if case.split == "test"] == [
            case for case in other.cases if case.split == "test"
        ]
        assert {case.case_id for case in gold.cases} < {case.case_id for case in other.cases}


def test_film_01_divided_in_time(repository: Path) -> None:
    manifest = read_manifest(repository / "data_manifests" / "u373_time.json")
    frames = {
        part: [(case.subject, case.facts["frame"]) for case in select_cases(manifest, part, "time")]
        for part in ("train", "val")
    }
    assert frames == {
        "train": [("PhC-C2DH-U373/01", frame) for frame in range(80)],
        "val": [("PhC-C2DH-U373/01", frame) for frame in range(90, 115)],
    }
    assert len(manifest.named_splits["time"]["exclude"]) == 10


@pytest.mark.realdata
def test_building_again_gives_the_committed_file(name: str, repository: Path, shared_data: Path) -> None:
    folder = shared_data / "PhC-C2DH-U373"
    checksums = read_checksums(folder / "SHA256SUMS")
    built = read_layout("cell_tracking", folder, checksums, masks=MASKS[name]).manifest
    test_ids = read_id_list(repository / "data_manifests" / "u373_test.txt")[0]
    again = split_manifest(built, folds=0, seed=0, test_ids=test_ids)
    if name == "u373_time":
        again = add_named_split(again, "time", *read_named_split(repository / "data_manifests" / "u373_time.txt"))
    assert dump_manifest(again) == (repository / "data_manifests" / f"{name}.json").read_text(encoding="utf-8")


@pytest.mark.realdata
def test_real_film_agrees_with_it(name: str, manifest: Manifest, repository: Path, shared_data: Path) -> None:
    folder = shared_data / "PhC-C2DH-U373"
    report = check_manifest(manifest, folder, level="deep")
    assert [(issue.code, issue.severity) for issue in report.issues] == WARNINGS[name]
    assert len(report.absent) == 19
    items = load_datalist(repository / "data_manifests" / f"{name}.json", folder, "train", None)
    assert len(items) == TRAINING[name]


@pytest.mark.realdata
def test_real_film_divided_in_time_is_loaded(repository: Path, shared_data: Path) -> None:
    path, folder = repository / "data_manifests" / "u373_time.json", shared_data / "PhC-C2DH-U373"
    assert [len(load_datalist(path, folder, part, "time")) for part in ("train", "val")] == [80, 25]
