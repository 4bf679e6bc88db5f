"""Intervals of means and medians: what they hold in simulations, by hand, by subject, and where there is none."""

import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline.statistics.intervals import (
    LARGE_METHOD,
    MEAN_METHOD,
    find_mean_interval,
    find_median_interval,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import interval_coverage as coverage


def draw(n, missed=0.05, seed=0):
    generator = np.random.default_rng(seed)
    return np.where(generator.random(n) < missed, 0.0, generator.beta(8, 1.2, n))


@pytest.mark.parametrize("scores", [*coverage.FITTED[2::5], *coverage.HELD_OUT[1::5]], ids=lambda scores: scores.title)
def test_what_is_printed_holds(scores):
    """Few samples here; the slow test has more, of all distributions."""
    for n, low, high in ((13, 0.93, 0.995), (44, 0.93, 0.98), (80, 0.93, 0.98)):
        found = coverage.measure_mean(scores, n, 400, ["chosen"])["chosen"]
        spread = 2.6 * math.sqrt(0.05 * 0.95 / 400)
        assert low - spread <= found <= high + spread, (n, found)


@pytest.mark.slow
@pytest.mark.parametrize("scores", [*coverage.FITTED, *coverage.HELD_OUT], ids=lambda scores: scores.title)
def test_coverage(scores):
    for n, high in ((10, 0.995), (13, 0.995), (44, 0.98), (80, 0.975), (200, 0.97)):
        assert 0.935 <= coverage.measure_mean(scores, n, 4000, ["chosen"])["chosen"] <= high + 0.008, n


@pytest.mark.slow
@pytest.mark.parametrize("scores", [*coverage.FITTED, *coverage.HELD_OUT], ids=lambda scores: scores.title)
def test_coverage_of_medians(scores):
    for n in (20, 44, 80):
        assert 0.925 <= coverage.measure_median(scores, n, 2000) <= (0.99 if scores.cases > 1 else 0.97), n


@pytest.mark.parametrize("scores", coverage.RARE, ids=lambda scores: scores.title)
def test_misses_that_the_sample_does_not_show_are_held_too(scores):
    """A bootstrap of a sample without a miss knows nothing of them."""
    found = coverage.measure_mean(scores, 44, 300, ["chosen", "BCa"])
    assert found["chosen"] > 0.95
    assert found["BCa"] < 0.9


def test_the_simulation_computes_what_the_package_computes():
    scores = coverage.Scores("skewed", coverage.SKEWED, 0.1, cases=3)
    values, counts = scores.draw(30, 3, np.random.default_rng(3))
    low, high = coverage.find_chosen(coverage.Samples(np.nansum(values, axis=-1), counts))
    names = np.repeat(np.arange(30).astype(str), 3).tolist()
    for sample in range(3):
        interval = find_mean_interval(values[:, sample].reshape(-1), names)
        assert (interval.low, interval.high) == pytest.approx((low[sample], high[sample]), abs=0.006)


def test_upper_end_is_that_of_scipy():
    values = draw(40)
    expected = stats.bootstrap(
        (values,), np.mean, confidence_level=0.965, alternative="less", n_resamples=20_000, rng=np.random.default_rng(9)
    )
    assert find_mean_interval(values).high == pytest.approx(expected.confidence_interval.high, abs=0.002)


def test_lower_end_of_equal_scores_by_hand():
    """Only the unseen case differs; its weight is beta(1, n), whose quantile q solves (1 - q)^n = 0.025."""
    interval = find_mean_interval([0.8] * 20, resamples=200_000)
    assert interval.low == pytest.approx(0.8 * 0.025 ** (1 / 20), abs=1e-3)
    assert interval.high == pytest.approx(0.8 + 0.2 * (1 - 0.035 ** (1 / 20)), abs=1e-3)


def test_poor_scores_are_mirrored():
    good, poor = find_mean_interval(draw(30)), find_mean_interval(1 - draw(30))
    assert (poor.low, poor.high) == pytest.approx((1 - good.high, 1 - good.low))


def test_limits_scale():
    values = draw(30)
    interval = find_mean_interval(values)
    wider = find_mean_interval(100 * values - 50, limits=(-50.0, 50.0))
    assert (wider.low, wider.high) == pytest.approx((100 * interval.low - 50, 100 * interval.high - 50))


def test_seeded_and_blind_to_the_order_of_subjects_and_to_missing_values():
    values = list(draw(15))
    first = find_mean_interval(values, list("abcdefghijklmno"))
    assert first == find_mean_interval(values, list("abcdefghijklmno"))
    assert first == find_mean_interval([*values[::-1], math.nan, math.inf], [*"onmlkjihgfedcba", "x", "a"])
    assert first.low != find_mean_interval(values, seed=1).low


def test_subjects_with_copies_of_a_case_tell_no_more_than_with_one():
    values = draw(20)
    names = [str(k) for k in range(20)]
    alone = find_mean_interval(values, names)
    copied = find_mean_interval(np.repeat(values, 10), np.repeat(names, 10).tolist())
    assert (copied.low, copied.high, copied.n) == pytest.approx((alone.low, alone.high, 20))
    assert find_mean_interval(np.repeat(values, 10)).high - copied.high < -0.005


@pytest.mark.parametrize(
    ("values", "limits", "why"),
    [
        ([], (0.0, 1.0), "0 subjects are too few for a 95 % interval of the mean, at least 10 are needed"),
        ([0.5], (0.0, 1.0), "1 subject is too few for a 95 % interval of the mean, at least 10 are needed"),
        ([0.5] * 9, (0.0, 1.0), "9 subjects are too few for a 95 % interval of the mean, at least 10 are needed"),
        ([3.0] * 50, None, "the mean of a quantity without an upper limit has no interval that holds: use the median"),
        ([0.5] * 11 + [1.5], (0.0, 1.0), "there are values outside of 0 to 1"),
    ],
)
def test_no_interval_of_a_mean(values, limits, why):
    interval = find_mean_interval(values, limits=limits)
    assert (interval.low, interval.high, interval.why_not) == (None, None, why)


@pytest.mark.parametrize("find", [find_mean_interval, find_median_interval])
def test_wrong_arguments(find):
    with pytest.raises(ValueError, match="expected one subject a value, got 1 subjects and 2 values"):
        find([0.5, 0.6], ["a"])
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
        find([0.5, 0.6], level=95)


@pytest.mark.parametrize("n", [6, 7, 13, 44, 80, 201])
def test_median_lies_between_the_exact_intervals(n):
    ordered = np.sort(draw(n, missed=0))
    found = find_median_interval(ordered)
    exact = {k: 1 - 2 * stats.binom.cdf(k - 1, n, 0.5) for k in range(1, n // 2 + 1)}
    depth = max(k for k, held in exact.items() if held >= 0.95)
    assert ordered[depth - 1] <= found.low <= ordered[depth]
    assert ordered[n - depth - 1] <= found.high <= ordered[n - depth]


def test_median_by_hand():
    """Of 13: ranks 3 and 11 hold 97.75 %, 4 and 10 hold 90.77 %; a share 0.394 of the way, 0.685 in ranks."""
    found = find_median_interval(range(1, 14))
    assert (found.low, found.high) == pytest.approx((3.6846, 10.3154), abs=1e-3)


def test_median_of_few():
    assert find_median_interval(range(5)).why_not == (
        "5 subjects are too few for a 95 % interval of the median, at least 6 are needed"
    )
    assert 0 <= find_median_interval(range(6)).low < 0.4
    assert find_median_interval(range(5), level=0.9).low is not None
    assert find_median_interval(list(range(10)) * 2, list("abcdefghij") * 2).why_not.endswith("at least 20 are needed")


def test_median_by_subject_is_wider_than_by_case():
    values = np.repeat(draw(25, missed=0), 8)
    names = np.repeat(np.arange(25).astype(str), 8).tolist()
    by_case, by_subject = find_median_interval(values), find_median_interval(values, names)
    assert by_subject.low < by_case.low < by_case.high < by_subject.high
    assert (by_case.n, by_subject.n) == (200, 25)


def test_more_cases_narrow_both():
    means, medians = (
        [find(draw(n, seed=4)) for n in (20, 80, 320)] for find in (find_mean_interval, find_median_interval)
    )
    for found in (means, medians):
        assert all(a.high - a.low > b.high - b.low for a, b in pairwise(found))


def test_of_many_subjects_another_bootstrap_gives_the_same():
    values = draw(1000, seed=2)
    large, small = find_mean_interval(values), find_mean_interval(values[:-1])
    assert (large.method, small.method) == (LARGE_METHOD, MEAN_METHOD)
    assert (large.low, large.high) == pytest.approx((small.low, small.high), abs=0.002)
