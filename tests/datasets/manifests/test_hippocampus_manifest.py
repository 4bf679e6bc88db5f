"""The committed manifest of the hippocampus task is what a build of the real folder gives."""

from collections import Counter
from pathlib import Path

import pytest

from pipeline.datasets import Manifest, read_manifest
from pipeline.datasets.checks.integrity import MANIFEST_CHECKS, check_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest_file import dump_manifest
from pipeline.datasets.splits.splits import split_manifest


@pytest.fixture(scope="module")
def path(repository: Path) -> Path:
    return repository / "data_manifests" / "hippocampus.json"


@pytest.fixture(scope="module")
def manifest(path: Path) -> Manifest:
    return read_manifest(path)


def test_counts(manifest: Manifest) -> None:
    assert len(manifest.cases) == 180
    assert sum(len(case.sha256) for case in manifest.cases) == 360
    assert manifest.labels == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert {tuple(case.facts["spacing"]) for case in manifest.cases} == {(1, 1, 1)}
    assert Counter(case.facts["dtype"] for case in manifest.cases) == {"float32": 143, "uint8": 37}
    for case in manifest.cases:
        voxels = case.facts["voxels"]
        assert set(voxels) == {"0", "1", "2"}
        assert voxels["1"] + voxels["2"] == case.facts["foreground"] > 0


def test_it_has_no_findings(manifest: Manifest) -> None:
    assert [issue for check in MANIFEST_CHECKS for issue in check(manifest)] == []


def test_folds_are_of_equal_number_and_size(manifest: Manifest) -> None:
    assert Counter(case.fold for case in manifest.cases) == dict.fromkeys(range(5), 36)
    assert {case.split for case in manifest.cases} == {"train"}
    means = [sum(case.facts["foreground"] for case in manifest.cases if case.fold == fold) / 36 for fold in range(5)]
    assert max(means) < 1.02 * min(means)


@pytest.mark.realdata
def test_a_build_of_the_real_folder_gives_it_byte_for_byte(path: Path, shared_data: Path) -> None:
    draft = read_layout("decathlon", shared_data / "Task04_Hippocampus")
    assert dump_manifest(split_manifest(draft.manifest, folds=5, seed=2019)) == path.read_text(encoding="utf-8")
    assert [note.code for note in draft.notes] == ["description-missing"]


@pytest.mark.realdata
def test_real_volumes_agree_with_it(manifest: Manifest, shared_data: Path) -> None:
    report = check_manifest(manifest, shared_data / "Task04_Hippocampus", level="deep")
    assert report.errors() == []
    assert len(report.results) == 180
    assert {issue.code for issue in report.issues} == {"intensity-range", "patient-missing"}
