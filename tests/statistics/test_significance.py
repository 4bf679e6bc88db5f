"""Paired tests, false claims and power: scipy, counting by hand, and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.statistics.significance import (
    adjust_holm,
    find_false_claim_probability,
    find_permutation_p,
    find_smallest_difference,
    find_wilcoxon_p,
    list_differences,
)

NAN = math.nan


def draw(n, effect=0.0, seed=0, spread=0.05):
    return np.random.default_rng(seed).normal(effect, spread, n)


def test_differences_are_those_of_cases_with_both_scores_and_their_mean_is_that_over_cases():
    people = {"a1": "a", "a2": "a", "a3": "a", "b": "b", "c": "c"}
    scores = {"a1": 0.9, "a2": 0.7, "a3": NAN, "b": 0.5, "c": NAN}
    base = {"a1": 0.5, "a2": 0.5, "a3": 0.1, "b": 0.6, "c": 0.5}
    assert list_differences(scores, base, people).tolist() == pytest.approx([0.4, -0.0667], abs=1e-4)
    assert list_differences(scores, base, people).mean() == pytest.approx((0.4 + 0.2 - 0.1) / 3)
    assert list_differences({"c": NAN}, {"c": 0.5}, people).tolist() == []
    with pytest.raises(ValueError, match="the baseline's 1 cases"):
        list_differences(scores, {"a1": 0.5}, people)


@pytest.mark.parametrize(("n", "effect", "seed"), [*itertools.product([6, 13, 44, 80], [0.0, 0.02], range(2))])
def test_tests_equal_scipy(n, effect, seed):
    values = draw(n, effect, seed)
    assert find_wilcoxon_p(values) == pytest.approx(stats.wilcoxon(values).pvalue)
    one_sided = stats.ttest_1samp(values, 0, alternative="greater" if values.mean() > 0 else "less").pvalue
    assert find_false_claim_probability(values) == pytest.approx(one_sided)
    reference = stats.permutation_test(
        (values,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=10_000,
        vectorized=True, rng=np.random.default_rng(7), alternative="two-sided",
    ) if n < 20 else None  # fmt: skip
    if reference is not None:
        assert find_permutation_p(values) == pytest.approx(reference.pvalue, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-0.2, -0.1, 0.0, 0.1, 0.3]), min_size=1, max_size=8))
def test_permutation_by_counting_all_changes_of_sign(values):
    reached = [
        abs(sum(sign * value for sign, value in zip(signs, values, strict=True))) >= abs(sum(values)) - 1e-9
        for signs in itertools.product((-1, 1), repeat=len(values))
    ]
    assert find_permutation_p(values) == pytest.approx(sum(reached) / len(reached))


def test_random_changes_of_sign_agree_with_all_of_them():
    values = draw(16, 0.02)
    exact = find_permutation_p(values)
    assert find_permutation_p([*values, 0.0], resamples=20_000) == pytest.approx(exact, abs=0.01)


def test_nothing_differs():
    assert find_wilcoxon_p([0.0, 0.0]) == find_permutation_p([0.0, NAN]) == find_permutation_p([]) == 1
    assert find_false_claim_probability([0.0, 0.0]) == 0.5
    assert find_false_claim_probability([0.1, 0.1]) == 0
    assert find_false_claim_probability([0.1, NAN]) is None


@pytest.mark.parametrize("find", [find_wilcoxon_p, find_permutation_p])
def test_no_difference_is_found_too_often(find):
    found = sum(find(draw(9, seed=seed)) < 0.05 for seed in range(100))
    assert found <= 12  # 5 expected; more than 12 are as improbable as one in five hundred


def test_holm_by_hand():
    assert adjust_holm([]) == []
    assert adjust_holm([0.2]) == [0.2]
    assert adjust_holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert adjust_holm([0.6, 0.5]) == [1.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_what_its_definition_rejects(p_values):
    adjusted = adjust_holm(p_values)
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[place] * (len(p_values) - rank) > level:
                break
            rejected.add(place)
        assert {place for place, p in enumerate(adjusted) if p <= level} == rejected


def test_probability_of_a_false_claim_is_that_of_a_simulation():
    """If nothing is known beforehand, claims that are made at a given probability are false as often as it says."""
    generator = np.random.default_rng(2)
    truths = generator.uniform(-0.3, 0.3, 20_000)
    values = generator.normal(truths[:, None], 0.1, (20_000, 13))
    errors = values.std(axis=1, ddof=1) / math.sqrt(13)
    said = stats.t.cdf(-np.abs(values.mean(axis=1)) / errors, 12)
    assert [find_false_claim_probability(row) for row in values[:20]] == pytest.approx(said[:20].tolist())
    false = np.sign(values.mean(axis=1)) != np.sign(truths)
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.5)):
        chosen = (said >= low) & (said < high)
        assert false[chosen].mean() == pytest.approx(said[chosen].mean(), abs=0.03)


@pytest.mark.parametrize("n", [5, 13, 80])
def test_smallest_difference_is_found_in_four_of_five_simulations(n):
    effect = find_smallest_difference(0.05, n)
    values = np.random.default_rng(5).normal(effect, 0.05, (4000, n))
    found = stats.ttest_1samp(values, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)


def test_smallest_difference_of_few_and_many():
    assert find_smallest_difference(0.1, 1) is None
    sizes = [find_smallest_difference(0.1, n) for n in (2, 3, 5, 20, 1000)]
    assert sizes == sorted(sizes, reverse=True)
    # Of many it is the sum of both normal quantiles times the standard error.
    assert sizes[-1] == pytest.approx((1.959964 + 0.841621) * 0.1 / math.sqrt(1000), rel=0.005)
    assert find_smallest_difference(0.2, 13) == pytest.approx(2 * find_smallest_difference(0.1, 13), rel=1e-4)
    assert find_smallest_difference(0.1, 13, power=0.9) > find_smallest_difference(0.1, 13)
