from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets import Case, Manifest
from pipeline.datasets.splits.assignment import Subject, assign_folds, draw_share
from pipeline.datasets.splits.splits import (
    By,
    add_named_split,
    describe_folds,
    gather_units,
    join_subjects,
    read_id_list,
    read_named_split,
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
        with pytest.raises(InputError, match=r"2 folds need|none is left for training"):
            split_manifest(manifest, folds=2, seed=seed, resplit="val")
        return
    split = split_manifest(manifest, folds=2, seed=seed, resplit="val")
    parts = defaultdict(set)
    for case in split.cases:
        assert (case.fold is None) == (case.split == "test")
        parts[case.subject_key()].add(case.fold)
    assert all(len(found) == 1 for found in parts.values())
    assert {key for key, found in parts.items() if found == {None}} == test
    assert split_manifest(split, folds=2, seed=seed) == split


def parts_by_subject(manifest: Manifest) -> dict[str, set[tuple[str, int | None]]]:
    parts = defaultdict(set)
    for case in manifest.cases:
        parts[case.subject_key()].add((case.split, case.fold))
    return parts


films = st.lists(
    st.builds(
        Case,
        case_id=st.uuids().map(str),
        subject=st.sampled_from(["a", "b", "c", "d", "e", "f", "", "unknown", " A"]),
        image=st.just(("x.tif",)),
        facts=st.fixed_dictionaries(
            {
                "foreground": st.none() | st.integers(0, 99),
                "group": st.sampled_from("GHI"),
                "sequence": st.sampled_from(["01", "02", "03", "04"]),
            }
        ),
    ),
    min_size=4,
    max_size=40,
)


@given(films, st.sampled_from(get_args(By)), st.integers(0, 3), st.randoms(use_true_random=False))
def test_what_belongs_together_stays_together(pool: list[Case], by: By, seed: int, random: Random) -> None:
    manifest = make_manifest(pool)
    near = [frozenset({pool[0].case_id, pool[-1].case_id})]
    if len(set(join_subjects(manifest, by, near).values())) == 1:
        with pytest.raises(InputError, match="2 folds need at least 2"):
            split_manifest(manifest, folds=2, seed=seed, by=by, together=near)
        return
    split = split_manifest(manifest, folds=2, seed=seed, by=by, together=near)
    parts = {case.case_id: case.fold for case in split.cases}
    assert parts[pool[0].case_id] == parts[pool[-1].case_id]
    assert all(len(found) == 1 for found in parts_by_subject(split).values())
    if by != "subject":
        for name in {case.facts[by] for case in pool}:
            assert len({case.fold for case in split.cases if case.facts[by] == name}) == 1
    assert set(parts.values()) == {0, 1}
    shuffled = make_manifest(random.sample(pool, len(pool)))
    again = split_manifest(shuffled, folds=2, seed=seed, by=by, together=near)
    assert {case.case_id: case.fold for case in again.cases} == parts


@given(films, st.floats(0.05, 0.49), st.floats(0.05, 0.4), st.integers(0, 3))
def test_shares_are_within_one_subject_of_the_wish(pool: list[Case], test: float, val: float, seed: int) -> None:
    manifest = make_manifest(pool)
    total = len({case.subject_key() for case in pool})
    if total < 3:
        with pytest.raises(InputError, match=r"set needs at least 2 subjects to draw from, got"):
            split_manifest(manifest, folds=0, seed=seed, test_share=test, val_share=val)
        return
    split = split_manifest(manifest, folds=0, seed=seed, test_share=test, val_share=val)
    parts = parts_by_subject(split)
    assert all(len(found) == 1 for found in parts.values())
    counts = Counter(next(iter(found))[0] for found in parts.values())
    assert abs(counts["test"] - test * total) <= 1
    # The share of validation is of what is not test.
    assert abs(counts["val"] - val * (total - counts["test"])) <= 1
    assert min(counts["train"], counts["val"], counts["test"]) >= 1


@given(subjects, st.floats(0.1, 0.9))
def test_a_share_takes_of_every_large_group_and_of_all_sizes(pool: list[Subject], share: float) -> None:
    drawn = draw_share(pool, share, 0, "test")
    assert drawn < {subject.key for subject in pool}
    for group in {subject.group for subject in pool}:
        keys = {subject.key for subject in pool if subject.group == group}
        # One neighbourhood may be cut at either end of a group.
        assert abs(len(drawn & keys) - share * len(keys)) <= 2 + 1


def test_the_frames_of_a_film_are_never_divided() -> None:
    frames = [
        Case(f"{film}_{k}", film, (f"{film}/t{k:03d}.tif",), facts={"sequence": film, "frame": k})
        for film in ("01", "02")
        for k in range(30)
    ]
    split = split_manifest(make_manifest(frames), folds=2, seed=0, by="sequence")
    assert {frozenset(found) for found in parts_by_subject(split).values()} == {
        frozenset({("train", 0)}),
        frozenset({("train", 1)}),
    }
    with pytest.raises(InputError, match=r"2 folds need at least 2 sequences that are not test, got 1 \(01\)"):
        split_manifest(make_manifest(frames[:30]), folds=2, seed=0, by="sequence")


def test_institutions_are_left_out_whole_and_balanced() -> None:
    sizes = {"DU": 45, "HT": 34, "CS": 16, "FG": 14, "EZ": 1}
    pool = [Case(f"{g}{k}", f"{g}{k}", ("x",), facts={"group": g}) for g, size in sizes.items() for k in range(size)]
    split = split_manifest(make_manifest(pool), folds=3, seed=0, by="group")
    counts = Counter(case.fold for case in split.cases)
    assert sorted(counts.values()) == [31, 34, 45]
    assert {case.facts["group"] for case in split.cases if counts[case.fold] == 31} == {"CS", "FG", "EZ"}
    with pytest.raises(InputError, match="6 folds need at least 6 groups that are not test, got 5"):
        split_manifest(make_manifest(pool), folds=6, seed=0, by="group")
    nameless = [*pool, Case("x", "x", ("x",))]
    with pytest.raises(InputError, match="--by group: 1 of 111 cases name no group, for example x"):
        split_manifest(make_manifest(nameless), folds=3, seed=0, by="group")


OFFICIAL = [
    *(Case(f"r{k}", "", (f"r{k}.jpg",)) for k in range(8)),
    *(Case(f"v{k}", "", (f"v{k}.jpg",), split="val") for k in range(2)),
    *(Case(f"t{k}", "", (f"t{k}.jpg",), split="test") for k in range(3)),
]


def test_official_splits_are_kept_and_only_replaced_on_demand() -> None:
    manifest = make_manifest(OFFICIAL)
    assert split_manifest(manifest, folds=0, seed=0) == manifest
    with pytest.raises(InputError, match=r"validation set already \(2 subjects\); --folds 0 keeps it, --resplit val"):
        split_manifest(manifest, folds=2, seed=0)
    with pytest.raises(InputError, match=r"test set already \(3 subjects\); --resplit all draws a new one"):
        split_manifest(manifest, folds=0, seed=0, test_share=0.2)
    with pytest.raises(InputError, match="2 of its subjects are not in the list; --resplit all"):
        split_manifest(manifest, folds=0, seed=0, test_ids=["t0"])
    pooled = split_manifest(manifest, folds=2, seed=0, resplit="val")
    assert [case.split for case in pooled.cases] == ["train"] * 10 + ["test"] * 3
    assert Counter(case.fold for case in pooled.cases) == {0: 5, 1: 5, None: 3}
    anew = split_manifest(manifest, folds=2, seed=0, resplit="all", test_ids=["v0", "t1"])
    assert [case.case_id for case in anew.cases if case.split == "test"] == ["v0", "t1"]
    longer = split_manifest(manifest, folds=0, seed=0, test_ids=["v0", "t0", "t1", "t2"])
    assert [case.case_id for case in longer.cases if case.split == "test"] == ["v0", "t0", "t1", "t2"]


def test_copies_of_official_test_cases_become_test_cases() -> None:
    split = split_manifest(
        make_manifest(OFFICIAL), folds=0, seed=0, together=[{"r3", "t0"}, {"r5", "v1"}, {"r1", "r2"}]
    )
    parts = {case.case_id: case.split for case in split.cases}
    assert (parts["r3"], parts["r5"], parts["r1"], parts["r2"]) == ("test", "val", "train", "train")
    with pytest.raises(InputError, match="'nobody': not in the manifest 'toy'"):
        split_manifest(make_manifest(OFFICIAL), folds=0, seed=0, together=[{"r3", "nobody"}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": -1}, "must not be negative, got -1"),
        ({"folds": 2, "val_share": 0.2}, "choose --folds or --val-share"),
        ({"folds": 0, "test_share": 1.5}, "the share of test must lie between 0 and 1, got 1.5"),
        ({"folds": 0, "test_ids": ["a", "b", "c"]}, "none is left for training"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    pool = [Case(name, name, (f"{name}.png",)) for name in "abc"]
    with pytest.raises(InputError, match=message):
        split_manifest(make_manifest(pool), seed=0, **options)


def test_test_list_takes_cases_and_subjects(manifest: Manifest, patients: tuple[str, ...]) -> None:
    by_case = split_manifest(manifest, folds=2, seed=0, test_ids=[patients[0]])
    by_subject = split_manifest(manifest, folds=2, seed=0, test_ids=["TCGA_CS_0001"])
    assert by_case == by_subject
    assert [case.split for case in by_case.cases] == ["test", "train", "train"]
    assert sorted(case.fold for case in by_case.cases if case.fold is not None) == [0, 1]
    with pytest.raises(InputError, match="'nobody' and 1 more: not in the manifest 'lgg'"):
        split_manifest(manifest, folds=2, seed=0, test_ids=["nobody", patients[0], "no one"])


def test_sizes_add_up_over_a_subject() -> None:
    first = Case("a1", "A", ("x",), facts={"foreground": 3, "group": "G"})
    pool = [first, replace(first, case_id="a2", subject="a "), Case("b", "B", ("y",))]
    units = gather_units(pool, {case.subject_key(): case.subject_key() for case in pool}, "subject")
    assert units == [Subject("a", "G", 6), Subject("b", "", None)]


def test_named_split(manifest: Manifest, patients: tuple[str, ...]) -> None:
    split = add_named_split(manifest, "ref", [patients[2], patients[0]], "why")
    assert split.named_splits == {"ref": {"description": "why", "val": [patients[0], patients[2]]}}
    with pytest.raises(InputError, match="'x': not in the manifest"):
        add_named_split(manifest, "ref", ["x"])


def test_named_split_that_excludes_cases(manifest: Manifest, patients: tuple[str, ...]) -> None:
    one, two, three = patients
    split = add_named_split(manifest, "time", [three], "why", [two, one])
    assert split.named_splits == {"time": {"description": "why", "val": [three], "exclude": [one, two]}}
    with pytest.raises(InputError, match="'x': not in the manifest"):
        add_named_split(manifest, "time", [three], "", ["x"])
    with pytest.raises(InputError, match=f"{one!r} is both excluded from the split 'time' and in its validation set"):
        add_named_split(manifest, "time", [one, two], "", [one])


def test_read_named_split(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("# why\nb\nexclude: c\na\nexclude:d e\n")
    assert read_named_split(path) == (["b", "a"], "why", ["c", "d e"])
    path.write_text("a\n")
    assert read_named_split(path) == (["a"], "", [])
    path.write_text("exclude: a\n")
    with pytest.raises(InputError, match="excludes cases but names none for validation"):
        read_named_split(path)


def test_read_ids(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("# first\n# second\n\n a \nb\n")
    assert read_id_list(path) == (["a", "b"], "first second")
    path.write_text("# none\n")
    with pytest.raises(InputError, match="is empty"):
        read_id_list(path)
    with pytest.raises(InputError, match="cannot read the list of ids"):
        read_id_list(tmp_path / "none.txt")


def test_describe_folds(manifest: Manifest) -> None:
    lines = describe_folds(split_manifest(manifest, folds=2, seed=0, test_ids=["TCGA_HT_0003"]))
    assert lines[-1] == "  test: 1 cases (HT:1), mean foreground 24 voxels"
    assert len(lines) == 3


def make_numbered() -> Manifest:
    """Five subjects with the cases 1 to 3, 4 to 6, ...: the names of subjects are ids of cases of others."""
    subject_of = {number: (number + 2) // 3 for number in range(1, 16)}
    return make_manifest([Case(str(case), str(own), (f"{own}/{case}.png",)) for case, own in subject_of.items()])


def test_an_id_that_is_the_name_of_another_subject_too_is_the_case() -> None:
    # Case 4 is of subject 2, and subject 4 has the cases 10 to 12.
    manifest, near = make_numbered(), [frozenset({"4", "13"})]
    assert join_subjects(manifest, together=near) == {"1": "1", "2": "2", "3": "3", "4": "4", "5": "2"}
    for seed in range(5):
        split = split_manifest(manifest, folds=4, seed=seed, together=near)
        fold_of = {case.case_id: case.fold for case in split.cases}
        assert fold_of["4"] == fold_of["13"] != fold_of["10"]


def test_a_name_in_a_list_that_could_be_a_case_or_a_subject_is_refused() -> None:
    manifest = make_numbered()
    with pytest.raises(InputError) as caught:
        split_manifest(manifest, folds=0, seed=0, test_ids=["8", "4"])
    assert str(caught.value) == (
        "'4' is a case of the subject '2', and also the name of another subject; each stands for its whole subject:"
        " type 6 for the first, 10 for the second"
    )
    for typed, subject in (("6", "2"), ("10", "4"), ("1", "1")):
        split = split_manifest(manifest, folds=0, seed=0, test_ids=[typed])
        assert {case.subject for case in split.cases if case.split == "test"} == {subject}
    # Where the two are kept together anyway, the name is clear.
    split = split_manifest(manifest, folds=0, seed=0, test_ids=["4"], together=[{"6", "10"}])
    assert {case.subject for case in split.cases if case.split == "test"} == {"2", "4"}


def test_a_name_for_which_there_is_no_other_is_refused_too() -> None:
    manifest = make_manifest([Case("a", "b", ("0.png",)), Case("b", "a", ("1.png",))])
    with pytest.raises(InputError, match=r"'a' is a case of the subject 'b', .*; give the subjects other names"):
        split_manifest(manifest, folds=0, seed=0, test_ids=["a"])
    manifest = make_manifest([Case("a", "", ("0.png",)), Case("b", "a", ("1.png",))])
    with pytest.raises(InputError, match="'a' is a case without subject, and also the name of another subject"):
        split_manifest(manifest, folds=0, seed=0, test_ids=["a"])
