from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets import Case, Manifest
from pipeline.datasets.splits import (
    Subject,
    add_named_split,
    assign_folds,
    describe_folds,
    gather_subjects,
    read_ids,
    split_manifest,
)
from pipeline.issues import InputError

subjects = st.lists(
    st.builds(
        Subject,
        key=st.text("abcdefgh0123", min_size=1, max_size=6),
        group=st.sampled_from(["CS", "DU", "EZ", "FG", ""]),
        size=st.none() | st.integers(0, 100_000),
    ),
    unique_by=lambda subject: subject.key,
    min_size=6,
    max_size=80,
)


@given(subjects, st.integers(2, 6), st.integers(-5, 5))
def test_folds_are_balanced_in_total_and_in_every_group(pool: list[Subject], folds: int, seed: int) -> None:
    result = assign_folds(pool, folds, seed)
    assert set(result) == {subject.key for subject in pool}
    for group in (None, *{subject.group for subject in pool}):
        counts = Counter(result[subject.key] for subject in pool if group is None or subject.group == group)
        numbers = [counts[fold] for fold in range(folds)]
        assert max(numbers) - min(numbers) <= 1
        assert sum(numbers) == counts.total()


@given(subjects, st.integers(2, 6), st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_the_order_of_the_input(pool: list[Subject], folds: int, random: Random) -> None:
    shuffled = random.sample(pool, len(pool))
    assert assign_folds(shuffled, folds, 3) == assign_folds(pool, folds, 3)


@given(subjects, st.integers(2, 6))
def test_neighbours_in_size_are_in_different_folds(pool: list[Subject], folds: int) -> None:
    result = assign_folds(pool, folds, 0)
    for group in {subject.group for subject in pool}:
        sizes = sorted({s.size for s in pool if s.group == group and s.size is not None})
        own = {s.size: result[s.key] for s in pool if s.group == group and s.size is not None}
        if len(sizes) == len([s for s in pool if s.group == group]):
            for start in range(0, len(sizes), folds):
                block = [own[size] for size in sizes[start : start + folds]]
                assert len(set(block)) == len(block)


def test_folds_are_the_same_on_every_machine() -> None:
    pool = [Subject(f"s{index}", group="AB"[index % 2], size=index) for index in range(8)]
    assert assign_folds(pool, 3, 0) == FROZEN
    assert assign_folds(pool, 3, 1) != FROZEN


FROZEN = {"s0": 0, "s1": 2, "s2": 1, "s3": 0, "s4": 2, "s5": 1, "s6": 1, "s7": 2}


@pytest.mark.parametrize(("folds", "message"), [(1, "at least 2 folds"), (9, "9 folds need at least 9 subjects")])
def test_impossible_folds_are_refused(folds: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        assign_folds([Subject(str(index)) for index in range(8)], folds, 0)


def make_manifest(cases: list[Case]) -> Manifest:
    return Manifest("toy", "segmentation", "", "", {}, {}, (), tuple(cases))


cases = st.lists(
    st.builds(
        Case,
        case_id=st.uuids().map(str),
        subject=st.sampled_from([f"Patient {letter}" for letter in "abcdefghij"] + [" patient A ", "PATIENT B"]),
        image=st.just(("x.tif",)),
        split=st.sampled_from(("train", "val", "test")),
        facts=st.fixed_dictionaries(
            {"foreground": st.none() | st.integers(0, 99), "group": st.sampled_from(["A", "B"])}
        ),
    ),
    min_size=1,
    max_size=40,
)


@given(cases, st.integers(0, 3))
def test_no_subject_is_in_two_parts(pool: list[Case], seed: int) -> None:
    manifest = make_manifest(pool)
    test = {case.subject_key() for case in pool if case.split == "test"}
    if len({case.subject_key() for case in pool} - test) < 2:
        with pytest.raises(InputError, match="2 folds need"):
            split_manifest(manifest, folds=2, seed=seed)
        return
    split = split_manifest(manifest, folds=2, seed=seed)
    parts = defaultdict(set)
    for case in split.cases:
        assert (case.fold is None) == (case.split == "test")
        parts[case.subject_key()].add(case.fold)
    assert all(len(found) == 1 for found in parts.values())
    assert {key for key, found in parts.items() if found == {None}} == test
    assert split_manifest(split, folds=2, seed=seed) == split


def test_test_list_takes_cases_and_subjects(manifest: Manifest, patients: tuple[str, ...]) -> None:
    by_case = split_manifest(manifest, folds=2, seed=0, test_ids=[patients[0]])
    by_subject = split_manifest(manifest, folds=2, seed=0, test_ids=["TCGA_CS_0001"])
    assert by_case == by_subject
    assert [case.split for case in by_case.cases] == ["test", "train", "train"]
    assert sorted(case.fold for case in by_case.cases if case.fold is not None) == [0, 1]
    with pytest.raises(InputError, match="'nobody' and 1 more is no case of the manifest 'lgg'"):
        split_manifest(manifest, folds=2, seed=0, test_ids=["nobody", patients[0], "no one"])


def test_sizes_add_up_over_a_subject() -> None:
    first = Case("a1", "A", ("x",), facts={"foreground": 3, "group": "G"})
    pool = [first, replace(first, case_id="a2", subject="a "), Case("b", "B", ("y",))]
    assert gather_subjects(pool) == [Subject("a", "G", 6), Subject("b", "", None)]


def test_named_split(manifest: Manifest, patients: tuple[str, ...]) -> None:
    split = add_named_split(manifest, "ref", [patients[2], patients[0]], "why")
    assert split.named_splits == {"ref": {"description": "why", "val": [patients[0], patients[2]]}}
    with pytest.raises(InputError, match="'x' is no case"):
        add_named_split(manifest, "ref", ["x"])


def test_read_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("# first\n# second\n\n a \nb\n")
    assert read_ids(path) == (["a", "b"], "first second")
    path.write_text("# none\n")
    with pytest.raises(InputError, match="is empty"):
        read_ids(path)
    with pytest.raises(InputError, match="cannot read the list of ids"):
        read_ids(tmp_path / "none.txt")


def test_describe_folds(manifest: Manifest) -> None:
    lines = describe_folds(split_manifest(manifest, folds=2, seed=0, test_ids=["TCGA_HT_0003"]))
    assert lines[-1] == "  test: 1 cases (HT:1), mean foreground 24 voxels"
    assert len(lines) == 3
