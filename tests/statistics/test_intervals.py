"""Bootstrap intervals: small samples, missing values, agreement with scipy."""

import numpy as np
import pytest
from scipy import stats

from pipeline.statistics.intervals import bootstrap_mean, take_interval


@pytest.mark.parametrize("values", [[], [0.5]])
def test_fewer_than_two_values_have_no_interval(values):
    assert bootstrap_mean(np.array(values)) == (None, None)


def test_equal_values_have_an_interval_without_width():
    assert bootstrap_mean(np.full(5, 0.25)) == (0.25, 0.25)


def test_the_interval_is_near_that_of_scipy():
    values = np.random.default_rng(1).beta(4, 1, 40)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=2).confidence_interval
    assert bootstrap_mean(values) == pytest.approx((expected.low, expected.high), abs=0.005)


def test_missing_resamples_are_left_out():
    assert take_interval(np.array([np.nan, 0.0, 1.0])) == pytest.approx((0.025, 0.975))
