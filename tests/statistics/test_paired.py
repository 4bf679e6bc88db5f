import math

import numpy as np
import pytest
from scipy.stats import bootstrap

from pipeline.statistics.paired import compare_paired, judge_best


def draw(subjects: int, effect: float = 0.0, seed: int = 0, candidates: int = 1):
    """Return people, a baseline, and candidates that differ from it by noise and an effect."""
    generator = np.random.default_rng(seed)
    names = [f"s{number}" for number in range(subjects)]
    base = generator.normal(0.8, 0.1, subjects)
    others = [base + generator.normal(effect, 0.05, subjects) for _ in range(candidates)]
    return {name: name for name in names}, *(dict(zip(names, values, strict=True)) for values in (base, *others))


def test_the_interval_is_that_of_scipy() -> None:
    people, base, other = draw(25, effect=0.02)
    result = compare_paired(other, base, people, resamples=20_000)
    gains = np.array([other[name] - base[name] for name in people])
    expected = bootstrap((gains,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    assert result.mean == pytest.approx(gains.mean())
    assert (result.low, result.high) == pytest.approx(tuple(expected), abs=1e-3)
    assert (result.n_cases, result.n_subjects) == (25, 25)


def test_a_seed_gives_the_same_interval_whatever_the_order_of_the_cases() -> None:
    people, base, other = draw(9)
    turned = dict(reversed(other.items()))
    first, again = (compare_paired(scores, base, people, seed=4) for scores in (other, turned))
    assert (first.low, first.high) == pytest.approx((again.low, again.high))
    assert compare_paired(other, base, people, seed=5).low != first.low


def test_subjects_are_drawn_with_all_their_cases() -> None:
    people = {f"{name}{number}": name for name in "abc" for number in range(50)}
    base = dict.fromkeys(people, 0.5)
    # Every case of a and b gains, every case of c loses: three subjects tell nothing, 150 cases would.
    other = {case: 0.5 + (0.2 if name in "ab" else -0.2) for case, name in people.items()}
    result = compare_paired(other, base, people)
    assert result.n_subjects == 3
    assert result.low is not None
    assert result.low < 0 < result.mean
    assert not result.is_gain


def test_cases_without_a_score_are_left_out_of_the_means() -> None:
    people = {name: name for name in "abcd"}
    base = {"a": 0.5, "b": 0.5, "c": 0.0, "d": math.nan}
    other = {"a": 0.6, "b": 0.6, "c": math.nan, "d": math.nan}
    result = compare_paired(other, base, people)
    assert result.mean == pytest.approx(0.6 - 1 / 3)
    assert compare_paired(dict.fromkeys(people, math.nan), base, people).low is None


def test_one_subject_has_no_interval() -> None:
    people = {"a1": "a", "a2": "a"}
    result = compare_paired({"a1": 1.0, "a2": 1.0}, {"a1": 0.0, "a2": 0.5}, people)
    assert (result.mean, result.low, result.high, result.is_gain) == (0.75, None, None, False)
    assert judge_best([{"a1": 1.0, "a2": 1.0}], {"a1": 0.0, "a2": 0.5}, people) == 1


def test_other_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="the baseline's 1 cases"):
        compare_paired({"a": 1.0}, {"b": 1.0}, {"a": "a", "b": "b"})


def test_the_best_of_useless_candidates_is_rarely_taken_for_good() -> None:
    found = 0
    for seed in range(200):
        people, base, *others = draw(15, seed=seed, candidates=20)
        found += judge_best(others, base, people, resamples=400) < 0.025
    # Five are to be expected; more than twelve are as improbable as one in five hundred.
    assert found <= 12


def test_one_good_candidate_among_useless_ones_is_found() -> None:
    people, base, *others = draw(20, candidates=19)
    _, _, good = draw(20, effect=0.08)
    assert judge_best([*others, good], base, people) < 0.01


def test_one_candidate_is_judged_as_by_its_interval() -> None:
    # Skewed as gains are: most subjects gain nothing and one much.
    people = {f"s{number}": f"s{number}" for number in range(13)}
    base = dict.fromkeys(people, 0.8)
    gains = [0.35, 0.07, 0.03, 0.01, 0.004, -0.001, *[0.0] * 7]
    other = {name: 0.8 + gain for name, gain in zip(people, gains, strict=True)}
    result = compare_paired(other, base, people)
    assert result.low is not None
    assert (judge_best([other], base, people) < 0.025) == result.is_gain


def test_candidates_that_lose_have_no_chance() -> None:
    people, base, other = draw(20, effect=-0.1)
    assert judge_best([other], base, people) == 1
