"""Tests of the difference of two scores of the same cases, by subject; how likely a claim is false; what n can show."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from pipeline.statistics.grouping import Array
from pipeline.statistics.intervals import RESAMPLES, SEED

_EXACT = 16  # subjects up to which all changes of sign are tried: 65 536


def list_differences(scores: Mapping[str, float], baseline: Mapping[str, float], subjects: Mapping[str, str]) -> Array:
    """Return the difference that each subject adds to the mean over cases, in order of the names.

    It is the sum over the subject's cases that have both scores, divided by the number of such cases that a subject has
    on average: the mean difference of a subject, if all have equally many cases. So the mean over subjects is the mean
    over cases, which is the difference that is shown, and a test by subject is a test of it.

    Args:
        scores: score by case, NaN for none.
        baseline: of the same cases.
        subjects: subject by case.

    Raises:
        ValueError: the two do not score the same cases.

    Example:
        >>> people = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}
        >>> scores = {"a1": 0.5, "a2": 1.0, "b1": 0.75, "b2": 0.75}
        >>> list_differences(scores, dict.fromkeys(people, 0.5), people).tolist()
        [0.25, 0.25]
    """
    if scores.keys() != baseline.keys():
        raise ValueError(f"expected scores of the baseline's {len(baseline)} cases, got {len(scores)} others")
    by_subject: dict[str, list[float]] = {}
    for case, value in scores.items():
        difference = value - baseline[case]
        if np.isfinite(difference):
            by_subject.setdefault(subjects[case], []).append(difference)
    each = sum(map(len, by_subject.values())) / max(1, len(by_subject))
    return np.array([np.sum(by_subject[name]) / each for name in sorted(by_subject)], dtype=float)


def find_wilcoxon_p(differences: ArrayLike) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test; 1 if there is no difference at all.

    Args:
        differences: (S,), one of each subject, see `list_differences`.

    Example:
        >>> find_wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        0.03125
    """
    array = _clean(differences)
    return float(stats.wilcoxon(array).pvalue) if array.any() else 1.0


def find_permutation_p(differences: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> float:
    """Return the two-sided p value of the mean difference if in each subject the two scores may be exchanged.

    All changes of sign are tried for up to 16 subjects, else ``resamples`` random ones, with the observed one counted
    (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9).

    Args:
        differences: (S,), one of each subject, see `list_differences`.
        resamples: number of random changes of sign.
        seed: random seed of them.

    Example:
        >>> find_permutation_p([0.1, 0.2, 0.3])  # two of eight changes of sign give 0.2 or more, or -0.2 or less
        0.25
    """
    array = _clean(differences)
    if not array.any():
        return 1.0
    exact = len(array) <= _EXACT
    signs = (
        np.array(list(itertools.product((-1.0, 1.0), repeat=len(array))))
        if exact
        else np.random.default_rng(seed).choice((-1.0, 1.0), (resamples, len(array)))
    )
    rounding = 1e-9 * float(np.abs(array).sum())  # sums that are equal on paper
    reached = int((np.abs(signs @ array) >= abs(array.sum()) - rounding).sum())
    return reached / len(signs) if exact else (reached + 1) / (resamples + 1)


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number, in the order given (Holm 1979, Scandinavian Journal of Statistics 6).

    Example:
        >>> [round(p, 3) for p in adjust_holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def find_false_claim_probability(differences: ArrayLike) -> float | None:
    """Return the probability that the method with the better mean is not better (Christodoulou et al. 2025).

    With mean m, standard deviation s of n differences and no prior knowledge of either, it is the distribution function
    of Student's t with n - 1 degrees of freedom at ``-|m| sqrt(n) / s`` (arXiv 2505.04720, "False Promises in Medical
    Imaging AI?"; there s comes from both standard deviations and a guessed correlation, here from the pairs). Claims
    with more than 5 % count as unsupported there.

    Args:
        differences: (S,), one of each subject, see `list_differences`.

    Returns:
        0 to 0.5; None for fewer than 2 subjects.

    Example:
        >>> round(find_false_claim_probability([0.02, 0.01, 0.03, 0.02]), 3)
        0.008
        >>> find_false_claim_probability([0.1, -0.1])
        0.5
    """
    array = _clean(differences)
    if len(array) < 2:
        return None
    error = array.std(ddof=1) / np.sqrt(len(array))
    if error == 0:
        return 0.5 if array[0] == 0 else 0.0
    return float(special.stdtr(len(array) - 1, -abs(array.mean()) / error))


def find_smallest_difference(spread: float, subjects: int, *, power: float = 0.8, level: float = 0.95) -> float | None:
    """Return the smallest true difference that a paired t test finds with a probability of ``power``.

    Args:
        spread: standard deviation of the differences over subjects.
        subjects: their number.
        power: probability to find it.
        level: 1 minus the two-sided error of the test.

    Returns:
        In the unit of ``spread``; None for fewer than 2 subjects.

    Example:
        >>> round(find_smallest_difference(0.035, 13), 3), round(find_smallest_difference(0.035, 80), 3)
        (0.03, 0.011)
    """
    if subjects < 2:
        return None
    freedom, root = subjects - 1, np.sqrt(subjects)
    limit = stats.t.ppf((1 + level) / 2, freedom)

    def lack(effect: float) -> float:
        above, below = stats.nct.sf(limit, freedom, effect * root), stats.nct.cdf(-limit, freedom, effect * root)
        return float(above + np.nan_to_num(below) - power)

    largest = (limit + stats.norm.ppf(power) + 3) / root * max(1.0, limit)
    return float(spread * optimize.brentq(lack, 1e-6, largest, xtol=1e-6))


def _clean(differences: ArrayLike) -> Array:
    array = np.asarray(differences, dtype=float).reshape(-1)
    return array[np.isfinite(array)]
