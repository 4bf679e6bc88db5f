"""The rule that decides, on tables of scores made up for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from pipeline.tuning.ablation import combine
from pipeline.tuning.choice import Judge, average, split_folds
from pipeline.tuning.settings import Setting, Step, name_setting

BASE: Setting = {"threshold": 0, "skip_crf": 0}


class FakeTable:
    """Scores by a function of the value of a knob and the case; remembers what was asked for."""

    def __init__(self, function: Callable[[Setting, str], float]) -> None:
        self.function = function
        self.asked: list[tuple[list[str], set[str]]] = []

    def score(self, settings: Sequence[Setting], cases: Sequence[str]) -> list[dict[str, float]]:
        self.asked.append(([name_setting(setting) for setting in settings], set(cases)))
        return [{case: self.function(setting, case) for case in cases} for setting in settings]


def make_step(values: Sequence[int], knob: str = "threshold") -> Step:
    """Make a step whose knob takes these values."""
    group = "threshold" if knob == "threshold" else "crf"
    return Step(knob, group, (knob,), tuple({knob: value} for value in values))


def make_subjects(count: int, cases: int = 1) -> dict[str, str]:
    return {f"s{n}_{c}": f"s{n}" for n in range(count) for c in range(cases)}


def judge(table: FakeTable, subjects: dict[str, str]) -> Judge:
    return Judge(table, subjects, resamples=2000, seed=0)


def noise(setting: Setting, case: str, knob: str = "threshold") -> float:
    return random.Random(f"{setting[knob]} {case}").gauss(0.8, 0.05)


def test_a_helpful_step_is_switched_on_with_the_value_that_is_best_on_all_cases() -> None:
    table = FakeTable(
        lambda setting, case: noise(BASE, case) + 0.01 * setting["threshold"] * (4 - setting["threshold"])
    )
    choice = judge(table, make_subjects(12)).choose(make_step(range(1, 5)), BASE)
    assert choice.is_kept
    assert choice.chosen == BASE | {"threshold": 2}
    assert choice.gain.mean == pytest.approx(0.04) == choice.in_sample


@pytest.mark.parametrize("values", [1, 19])
def test_useless_steps_are_left_off_although_their_best_value_looks_better(values: int) -> None:
    kept, in_sample, held_out = [], [], []
    for seed in range(40):
        table = FakeTable(lambda setting, case, seed=seed: noise(setting, f"{seed} {case}"))
        choice = judge(table, make_subjects(13)).choose(make_step(range(1, values + 1)), BASE)
        kept.append(choice.is_kept)
        in_sample.append(choice.in_sample)
        held_out.append(choice.gain.mean)
    # One in forty is to be expected, and three are no surprise.
    assert sum(kept) <= 3
    assert sum(in_sample) / 40 > (0.02 if values > 1 else 0)
    assert abs(sum(held_out) / 40) < 0.01


def test_a_step_that_changes_nothing_is_left_off() -> None:
    choice = judge(FakeTable(lambda setting, case: 0.8), make_subjects(8)).choose(make_step([1, 2]), BASE)
    assert choice.chosen == BASE
    assert (choice.gain.mean, choice.gain.low, choice.gain.high, choice.is_kept) == (0, None, None, False)


@pytest.mark.parametrize(("subjects", "folds"), [(7, 7), (20, 20), (21, 10), (45, 10)])
def test_held_out_subjects_have_no_part_in_the_choice(subjects: int, folds: int) -> None:
    people = make_subjects(subjects, cases=2)
    step = make_step(range(1, 6))
    subject = judge(FakeTable(noise), people)
    before = subject.choose(step, BASE)
    assert len(subject.folds) == len(before.by_fold) == folds
    for number, fold in enumerate(subject.folds):
        inside = {people[case] for case in fold}
        assert not inside & {people[case] for case in people if case not in fold}

        def score(setting: Setting, case: str, fold: list[str] = fold) -> float:
            return 9.0 * (setting["threshold"] == 5) if case in fold else noise(setting, case)

        after = judge(FakeTable(score), people).choose(step, BASE)
        assert after.chosen["threshold"] == 5, "all cases choose what is best by far in the fold"
        assert after.by_fold[number] == before.by_fold[number]


def test_values_that_fit_one_subject_each_gain_nothing_held_out() -> None:
    # Value n is perfect for subject n and bad for all others.
    table = FakeTable(
        lambda setting, case: (
            0.5 if not setting["threshold"] else float(case.startswith(f"s{setting['threshold']}_")) * 9
        )
    )
    choice = judge(table, make_subjects(4)).choose(make_step(range(4)), BASE)
    assert choice.in_sample > 1
    assert choice.gain.mean < 0
    assert not choice.is_kept


def test_the_next_step_starts_from_what_was_kept() -> None:
    def score(setting: Setting, case: str) -> float:
        # The first knob does not help; the second does, and only where the first is off.
        return noise(BASE, case) - 0.1 * setting["threshold"] + 0.2 * setting["skip_crf"] * (setting["threshold"] == 0)

    subject = judge(FakeTable(score), make_subjects(9))
    steps = [make_step([1, 2]), make_step([1], "skip_crf")]
    first, second = subject.choose_all(steps, BASE)
    assert not first.is_kept
    assert second.base == BASE
    assert second.is_kept
    row = combine(subject, "written", [second], BASE, "raw")
    assert row.setting == {"threshold": 0, "skip_crf": 1}
    assert row.gain is not None
    assert row.gain.mean == pytest.approx(0.2)


def test_a_step_that_a_later_one_replaces_is_left_off_and_the_rest_chosen_again() -> None:
    def score(setting: Setting, case: str) -> float:
        # Both mend the same half of the cases; the later one mends a little more, and 2 is its best value alone.
        mends = 0.2 if int(case[1:].split("_")[0]) % 2 else 0.0
        alone = {0: 0.0, 1: 1.1, 2: 1.2}[setting["skip_crf"]]
        both = {0: 1.0, 1: 1.1, 2: 1.0}[setting["skip_crf"]]
        return noise(BASE, case) + mends * (both if setting["threshold"] else alone)

    subject = judge(FakeTable(score), make_subjects(12))
    first, second = subject.choose_all([make_step([1]), make_step([1, 2], "skip_crf")], BASE)
    assert first.helps
    assert not first.is_kept
    assert first.on_top is not None
    assert not first.on_top.is_gain
    assert second.is_kept
    assert second.chosen == BASE | {"skip_crf": 2}, "chosen on top of a step that is off"


def test_steps_that_help_on_top_of_each_other_are_all_kept() -> None:
    def score(setting: Setting, case: str) -> float:
        return noise(BASE, case) + 0.1 * setting["threshold"] + 0.05 * setting["skip_crf"]

    subject = judge(FakeTable(score), make_subjects(9))
    choices = subject.choose_all([make_step([1]), make_step([1], "skip_crf")], BASE)
    assert [choice.is_kept for choice in choices] == [True, True]
    assert all(choice.on_top is None for choice in choices)


def test_steps_together_are_scored_with_what_was_chosen_without_the_case() -> None:
    table = FakeTable(lambda setting, case: noise(setting, case) + noise(setting, case, "skip_crf"))
    subject = judge(table, make_subjects(6))
    choices = [subject.choose(make_step(range(1, 5), knob), BASE) for knob in ("threshold", "skip_crf")]
    row = combine(subject, "all", choices, BASE, "raw")
    held_out = []
    for fold, first, second in zip(subject.folds, choices[0].by_fold, choices[1].by_fold, strict=True):
        setting = {"threshold": first["threshold"], "skip_crf": second["skip_crf"]}
        held_out += [table.function(setting, case) - table.function(BASE, case) for case in fold]
    assert row.gain is not None
    assert row.gain.mean == pytest.approx(sum(held_out) / len(held_out))
    assert row.setting == {"threshold": choices[0].chosen["threshold"], "skip_crf": choices[1].chosen["skip_crf"]}
    assert row.in_sample == pytest.approx(row.score - average(subject.score(BASE)[0].values()))


def test_more_cases_of_the_same_subjects_make_nothing_surer() -> None:
    def score(setting: Setting, case: str) -> float:
        subject = case.split("_")[0]
        return 0.5 + (noise(setting, subject) - 0.79 if setting["threshold"] else 0)

    once, often = (
        judge(FakeTable(score), make_subjects(10, cases)).choose(make_step([1]), BASE).gain for cases in (1, 8)
    )
    assert often.n_cases == 80
    assert (often.low, often.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_one_subject_switches_nothing_on() -> None:
    table = FakeTable(lambda setting, case: 0.5 + 0.1 * setting["threshold"])
    choice = judge(table, make_subjects(1, cases=5)).choose(make_step([1]), BASE)
    assert choice.in_sample == pytest.approx(0.1)
    assert choice.gain.low is None
    assert not choice.is_kept


def test_folds_are_the_same_for_a_seed_and_hold_every_case_once() -> None:
    people = make_subjects(33, cases=3)
    folds = split_folds(people, seed=5)
    assert folds == split_folds(people, seed=5)
    assert folds != split_folds(people, seed=6)
    assert sorted(case for fold in folds for case in fold) == sorted(people)
