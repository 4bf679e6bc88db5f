"""The committed manifest of the LGG data is what its README says."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from pipeline.datasets import Manifest, load_datalist, read_manifest
from pipeline.datasets.checks.integrity import MANIFEST_CHECKS, check_manifest
from pipeline.datasets.ordering import slice_key
from pipeline.datasets.splits.splits import add_named_split, read_id_list, split_manifest


@pytest.fixture(scope="module")
def lgg(repository: Path) -> Manifest:
    return read_manifest(repository / "data_manifests" / "lgg.json")


def test_counts(lgg: Manifest) -> None:
    assert len(lgg.cases) == 110
    assert len({case.subject for case in lgg.cases}) == 110
    assert sum(len(case.image) for case in lgg.cases) == 3929
    assert sum(len(case.sha256) for case in lgg.cases) == 7858
    test = [case for case in lgg.cases if case.split == "test"]
    assert len(test) == 44
    assert sum(len(case.image) for case in test) == 1568
    assert Counter(case.facts["group"] for case in lgg.cases) == {"DU": 45, "HT": 34, "CS": 16, "FG": 14, "EZ": 1}


def test_it_has_no_findings(lgg: Manifest) -> None:
    assert [issue for check in MANIFEST_CHECKS for issue in check(lgg)] == []


def test_slices_are_in_order_and_complete(lgg: Manifest) -> None:
    for case in lgg.cases:
        assert case.label is not None
        assert list(case.image) == sorted(case.image, key=lambda path: slice_key(path.removesuffix(".tif")))
        assert [path.removesuffix("_mask.tif") for path in case.label] == [p.removesuffix(".tif") for p in case.image]
        assert case.image[0] == f"{case.case_id}/{case.case_id}_1.tif"
        assert case.facts["shape"] == [256, 256, len(case.image)]


def test_folds_are_disjoint_and_spread_institutions_and_sizes(lgg: Manifest) -> None:
    folds = defaultdict(list)
    for case in lgg.cases:
        if case.split != "test":
            assert case.fold is not None
            folds[case.fold].append(case)
    assert sorted(folds) == [0, 1, 2, 3, 4]
    assert sorted(len(cases) for cases in folds.values()) == [13, 13, 13, 13, 14]
    for group in ("CS", "DU", "FG", "HT"):
        counts = [sum(case.facts["group"] == group for case in cases) for cases in folds.values()]
        assert max(counts) - min(counts) <= 1
    means = [sum(case.facts["foreground"] for case in cases) / len(cases) for cases in folds.values()]
    assert max(means) < 1.15 * min(means)


def test_test_masks_were_not_read(lgg: Manifest) -> None:
    assert {case.facts["foreground"] for case in lgg.cases if case.split == "test"} == {None}


def test_splits_follow_from_the_committed_lists(lgg: Manifest, repository: Path) -> None:
    folder = repository / "data_manifests"
    again = split_manifest(lgg, folds=5, seed=2019, test_ids=read_id_list(folder / "lgg_test.txt")[0])
    assert add_named_split(again, "reference", *read_id_list(folder / "lgg_reference.txt")) == lgg
    assert len(lgg.named_splits["reference"]["val"]) == 10


@pytest.mark.realdata
def test_real_patients_agree_with_it(lgg: Manifest, real_lgg: Path, repository: Path) -> None:
    present = [case for case in lgg.cases if (real_lgg / case.case_id).is_dir()]
    assert len(present) == 4
    report = check_manifest(lgg, real_lgg, level="deep", cases=present)
    assert report.issues == ()
    assert [result.empty for result in report.results] == [False] * 4
    items = load_datalist(repository / "data_manifests" / "lgg.json", real_lgg, "all", allow_missing=True)
    assert [item["case_id"] for item in items] == [case.case_id for case in present]
