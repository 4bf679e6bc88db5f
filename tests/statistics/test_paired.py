import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from pipeline.statistics.paired import compare_paired, judge_best

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import paired_coverage as coverage


@pytest.mark.parametrize("differences", coverage.HELD, ids=lambda differences: differences.title)
def test_what_is_printed_holds(differences):
    for subjects in (13, 44, 80):
        found, shown = coverage.measure(differences, subjects, 500)
        count = round(500 * shown)
        assert found["chosen"] >= 0.93 - 2.6 * math.sqrt(0.05 * 0.95 / count), (subjects, found)
        assert found["chosen"] <= 0.995 or count < 100, (subjects, found)


def test_a_percentile_bootstrap_would_not_hold():
    found, _ = coverage.measure(coverage.Differences("skewed"), 13, 2000)
    assert found["percentile"] < 0.9 < 0.93 < found["chosen"]


def test_the_simulation_computes_what_the_package_computes():
    for differences in coverage.HELD[::3]:
        values = differences.draw(30, 1)
        low, high = (float(end[0]) for end in coverage.find_chosen(values))
        gains = {f"s{number}": float(gain) for number, gain in enumerate(values[:, 0])}
        result = compare_paired(gains, dict.fromkeys(gains, 0.0), {name: name for name in gains}, resamples=20_000)
        assert (result.low, result.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def draw(subjects: int, effect: float = 0.0, seed: int = 0, candidates: int = 1):
    """Return people, a baseline, and candidates that differ from it by noise and an effect."""
    generator = np.random.default_rng(seed)
    names = [f"s{number}" for number in range(subjects)]
    base = generator.normal(0.8, 0.1, subjects)
    others = [base + generator.normal(effect, 0.05, subjects) for _ in range(candidates)]
    return {name: name for name in names}, *(dict(zip(names, values, strict=True)) for values in (base, *others))


def find_ends(gains: np.ndarray) -> tuple[float, float]:
    """Return the outer ends of Student's t by scipy and of a studentised bootstrap, one resample after the other."""
    t = ttest_1samp(gains, 0).confidence_interval()
    generator = np.random.default_rng(1)
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    ratios = []
    for _ in range(20_000):
        drawn = generator.choice(gains, len(gains))
        ratios.append((drawn.mean() - gains.mean()) / (drawn.std(ddof=1) / np.sqrt(len(gains))))
    low, high = np.quantile(ratios, (0.025, 0.975))
    return min(t.low, gains.mean() - high * error), max(t.high, gains.mean() - low * error)


def test_the_interval_is_that_of_scipy_and_of_plain_resampling() -> None:
    people, base, other = draw(25, effect=0.02)
    for skewed in (False, True):
        if skewed:
            other = {name: base[name] + abs(other[name] - base[name]) ** 2 * 10 for name in people}
        result = compare_paired(other, base, people, resamples=20_000)
        gains = np.array([other[name] - base[name] for name in people])
        assert result.mean == pytest.approx(gains.mean())
        assert (result.low, result.high) == pytest.approx(find_ends(gains), abs=1e-3)
        assert (result.n_cases, result.n_subjects) == (25, 25)


def test_the_error_is_by_subject_where_subjects_have_several_cases() -> None:
    """Twenty equal cases of each subject say no more than one, and no less."""
    people, base, other = draw(12, effect=0.02)
    often = {f"{name}-{k}": name for name in people for k in range(20)}
    one = compare_paired(other, base, people)
    many = compare_paired(*({case: scores[name] for case, name in often.items()} for scores in (other, base)), often)
    assert (many.low, many.high) == pytest.approx((one.low, one.high))
    assert (many.n_cases, many.n_subjects) == (240, 12)


def test_few_subjects_that_differ_have_no_interval() -> None:
    people, base, _ = draw(30)
    for count in (0, 1, 4, 5):
        other = base | {name: base[name] + 0.1 + 0.01 * k for k, name in enumerate(list(people)[:count])}
        result = compare_paired(other, base, people)
        assert (result.low is not None) == (count == 5)
        assert result.why_not.startswith("" if count == 5 else f"{count} of 30 subjects differ")
        assert not result.is_gain or count == 5


def test_a_seed_gives_the_same_interval_whatever_the_order_of_the_cases() -> None:
    people, base, other = draw(9)
    turned = dict(reversed(other.items()))
    first, again = (compare_paired(scores, base, people, seed=4) for scores in (other, turned))
    assert (first.low, first.high) == pytest.approx((again.low, again.high))
    assert compare_paired(other, base, people, seed=5).low != first.low


def test_subjects_are_drawn_with_all_their_cases() -> None:
    people = {f"{name}{number}": name for name in "abcdef" for number in range(50)}
    base = dict.fromkeys(people, 0.5)
    # Every case of four subjects gains, every case of two loses: six subjects tell nothing, 300 cases would.
    other = {case: 0.5 + (0.2 if name in "abcd" else -0.2) for case, name in people.items()}
    result = compare_paired(other, base, people, limits=(0.0, 1.0))
    assert result.n_subjects == 6
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


@pytest.mark.parametrize("count", [13, 44])
def test_where_one_subject_makes_up_the_difference_no_impossible_number_is_given(count: int) -> None:
    """A missed case that the other method finds: most resamples of the rest have no spread."""
    people = {f"s{number}": f"s{number}" for number in range(count)}
    noise = np.random.default_rng(0).normal(0, 0.002, count)
    base = dict.fromkeys(people, 0.8) | {"s0": 0.0}
    other = {name: 0.8 + float(one) for name, one in zip(people, noise, strict=True)} | {"s0": 0.88}
    result = compare_paired(other, base, people, limits=(0.0, 1.0))
    assert result.low is not None
    assert result.high is not None
    assert -1 <= result.low < 0 < result.mean < result.high <= 1
    unlimited = compare_paired(other, base, people)
    assert (unlimited.low, unlimited.high) == (None, None)
    assert unlimited.why_not == "a few subjects make up the difference, too few for a 95 % interval"


def test_limits_that_the_scores_do_not_keep_to_are_no_limits() -> None:
    people, base, other = draw(10)
    larger = ({name: 20 * value + 5 for name, value in scores.items()} for scores in (other, base))
    decibels, before = (
        {name: value * factor for name, value in scores.items()} for scores, factor in zip(larger, (2, 1), strict=True)
    )
    result = compare_paired(decibels, before, people, limits=(0.0, 1.0))
    assert result.low is not None
    assert result.high is not None
    assert 1 < result.low < result.mean < result.high


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


def test_a_gain_that_one_subject_makes_is_not_certain() -> None:
    # Most subjects gain nothing and one much: no resample has a loss, but the spread says that the mean may be one.
    people = {f"s{number}": f"s{number}" for number in range(13)}
    base = dict.fromkeys(people, 0.8)
    gains = [0.35, 0.07, 0.03, 0.01, 0.004, -0.001, *[0.0] * 7]
    other = {name: 0.8 + gain for name, gain in zip(people, gains, strict=True)}
    result = compare_paired(other, base, people)
    assert judge_best([other], base, people) < 0.025
    assert result.low is not None
    assert result.low < 0
    assert not result.is_gain


def test_candidates_that_lose_have_no_chance() -> None:
    people, base, other = draw(20, effect=-0.1)
    assert judge_best([other], base, people) == 1
