"""The difference between two scores of the same cases, with an interval by subject.

The method was chosen by a simulation, `benchmarks/paired_coverage.py`. Differences have long tails, and many subjects
do not differ at all. Student's t interval holds for such tails but not for skewed differences, the studentised
bootstrap the other way round; the outer end of both holds 93 to 99 % of either, if at least 5 subjects differ. A
percentile bootstrap holds 88 to 92 % with 13 subjects. None holds where what decides is rare: of a difference that 1 in
20 subjects shows, and shows one way, 13 subjects say nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.statistics.intervals import RESAMPLES, SEED

#: If fewer subjects differ, too many resamples have no spread, and there is no interval
MIN_DIFFERING = 5
METHOD = "outer ends of Student's t and of the studentised bootstrap"
_LEVEL = 0.95
_CHUNK = 1000  # resamples at a time, so that memory does not grow with their number
# Where the studentised bootstrap is so many times as wide as Student's t, most resamples lack the subjects that decide.
_TOO_WIDE = 30.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Difference:
    """The mean of one score minus that of another."""

    mean: float  #: difference of the means over the cases; NaN if one of them has no case with a value
    low: float | None  #: lower end of the 95 % interval, see `compare_paired`; None where it is not held
    high: float | None  #: upper end of it
    n_cases: int  #: number of cases compared
    n_subjects: int  #: number of subjects, the unit of resampling
    why_not: str = ""  #: why there is no interval; "" if there is one

    @property
    def is_gain(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low is not None and self.low > 0


def compare_paired(
    scores: Mapping[str, float],
    baseline: Mapping[str, float],
    subjects: Mapping[str, str],
    *,
    limits: tuple[float, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    """Compare two scores of the same cases.

    A resample draws subjects, each with all of its cases and both of their scores, because cases of one subject are
    not independent. A mean is over the cases that have a value, as metrics report it. Each end of the interval is the
    outer one of Student's t interval and of the studentised bootstrap (Efron and Tibshirani 1993, "An Introduction to
    the Bootstrap", chapter 12), both with the standard error by subject. If one subject makes up the difference, the
    resamples without it have hardly any spread and the studentised bootstrap hardly an end: the interval then ends at
    the greatest difference that is possible, or there is none if that is not known.

    Args:
        scores: score by case, NaN for none.
        baseline: of the same cases.
        subjects: subject by case.
        limits: the least and the greatest possible score; None for scores without limits, such as distances.
        resamples: number of bootstrap resamples.
        seed: random seed of the resampling.

    Raises:
        ValueError: the two do not score the same cases.

    Example:
        >>> people = {name: name for name in "abcdef"}
        >>> base = dict.fromkeys(people, 0.5)
        >>> gains = dict(zip(people, (0.1, 0.12, 0.08, 0.11, 0.09, 0.1)))
        >>> result = compare_paired({name: 0.5 + gain for name, gain in gains.items()}, base, people)
        >>> round(result.mean, 3), round(result.low, 3), result.n_cases, result.n_subjects
        (0.1, 0.084, 6, 6)
        >>> compare_paired(base | {"a": 0.9}, base, people).why_not
        '1 of 6 subjects differs, too few for a 95 % interval: at least 5 are needed'
    """
    sums = _sum_by_subject([scores], baseline, subjects)
    mean = float(_subtract(sums.sum(axis=0))[0])
    low = high = None
    why_not = "no case has both scores" if not math.isfinite(mean) else _find_obstacle(sums)
    if not why_not:
        low, high, why_not = _find_interval(sums, mean, limits, resamples, seed)
    return Difference(mean, low, high, len(scores), len(sums), why_not)


def _find_obstacle(sums: np.ndarray) -> str:
    count = int((sums[:, 0] != sums[:, 1]).any(axis=1).sum())
    if count >= MIN_DIFFERING:
        return ""
    verb = "differs" if count == 1 else "differ"
    return f"{count} of {len(sums)} subjects {verb}, too few for a 95 % interval: at least {MIN_DIFFERING} are needed"


def _find_interval(
    sums: np.ndarray, mean: float, limits: tuple[float, float] | None, resamples: int, seed: int
) -> tuple[float | None, float | None, str]:
    """Return both ends, or None and why there are none."""
    count = len(sums)
    flat = sums.reshape(count, -1)  # sum and number of the scores, then of the baseline
    products = flat[:, :, None] * flat[:, None, :]
    error = float(_find_error(sums.sum(axis=0)[None], products.sum(axis=0)[None], count)[0])
    ratios = []
    for often in _draw_subjects(count, resamples, seed):
        drawn, spread = np.tensordot(often, sums, axes=1), np.tensordot(often, products, axes=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            away = _subtract(drawn)[:, 0] - mean
            ratios.append(np.where(np.abs(away) <= _ROUNDING, 0.0, away / _find_error(drawn, spread, count)))
    outer = stats.t.ppf((1 + _LEVEL) / 2, count - 1)
    finite = np.concatenate(ratios)
    low, high = np.quantile(finite[np.isfinite(finite)], ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    if limits is not None and not _keep_to(sums, limits):
        limits = None
    farthest = math.inf if limits is None else limits[1] - limits[0]
    if limits is None and max(high, -low) > _TOO_WIDE * outer:
        return None, None, "a few subjects make up the difference, too few for a 95 % interval"
    ends = mean - max(outer, high) * error, mean + max(outer, -low) * error
    return max(float(ends[0]), -farthest), min(float(ends[1]), farthest), ""


def _keep_to(sums: np.ndarray, limits: tuple[float, float]) -> bool:
    """Return whether the mean of every subject lies within the limits; a name may promise what a metric is not."""
    means = sums[..., 0] / np.where(sums[..., 1], sums[..., 1], np.nan)
    known = means[np.isfinite(means)]
    return bool(((known >= limits[0] - _ROUNDING) & (known <= limits[1] + _ROUNDING)).all())


def _find_error(totals: np.ndarray, products: np.ndarray, count: int) -> np.ndarray:
    """Return the standard error by subject (R,) of a difference of means, by the delta method.

    Args:
        totals: (R, 2, 2), sum and number of the scores and of the baseline.
        products: (R, 4, 4), sums over subjects of the products of these four.
        count: number of subjects.
    """
    values, numbers = totals[..., 0], totals[..., 1]
    sides = np.array([1.0, -1.0])
    weights = np.stack([sides / numbers, -sides * values / numbers**2], axis=-1).reshape(len(totals), -1)
    square = np.einsum("ra,rab,rb->r", weights, products, weights)
    return np.asarray(np.sqrt(np.maximum(square, 0) * count / (count - 1)))


def judge_best(
    candidates: Sequence[Mapping[str, float]],
    baseline: Mapping[str, float],
    subjects: Mapping[str, str],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> float:
    """Return the probability of a gain as high as the best candidate's if no candidate is better than the baseline.

    The best of many candidates gains by chance alone, and more so the more were tried. Like White's reality check
    (2000, Econometrica 68) this compares the best gain with the largest shortfall in a resample, which is the largest
    difference of a candidate's gain to its gain in the resample. It allows for candidates that are alike. For one
    candidate it is the share of resamples without a gain.

    Args:
        candidates: scores by case, one mapping per value that was tried.
        baseline: of the same cases.
        subjects: subject by case, the unit of resampling.
        resamples: number of bootstrap resamples.
        seed: random seed of the resampling.

    Returns:
        One-sided p value; 1 for fewer than 2 subjects, or where no candidate gains.

    Raises:
        ValueError: a candidate does not score the baseline's cases.

    Example:
        >>> people = {name: name for name in "abcdef"}
        >>> low, high, mixed = ({name: value for name in "abcdef"} for value in (0.5, 0.6, 0.5))
        >>> mixed.update(a=0.9, b=0.2)
        >>> judge_best([high, mixed], low, people) < 0.2, judge_best([low], low, people)
        (True, 1.0)
    """
    sums = _sum_by_subject(candidates, baseline, subjects)
    gains = _subtract(sums.sum(axis=0))
    known = np.isfinite(gains)
    if len(sums) < 2 or not known.any() or gains[known].max() <= 0:
        return 1.0
    best = gains[known].max()
    reached = 0
    for drawn in _resample(sums, resamples, seed):
        below = gains[known] - _subtract(drawn)[:, known]
        reached += int((np.nan_to_num(below, nan=np.inf).max(axis=1) >= best * (1 - _ROUNDING)).sum())
    return (reached + 1) / (resamples + 1)


def _sum_by_subject(
    candidates: Sequence[Mapping[str, float]], baseline: Mapping[str, float], subjects: Mapping[str, str]
) -> np.ndarray:
    """Return sum and number of cases for each subject and score (S, K + 1, 2), the baseline last."""
    places = {name: place for place, name in enumerate(sorted({subjects[case] for case in baseline}))}
    sums = np.zeros((len(places), len(candidates) + 1, 2))
    for column, scores in enumerate((*candidates, baseline)):
        if scores.keys() != baseline.keys():
            raise ValueError(f"expected scores of the baseline's {len(baseline)} cases, got {len(scores)} others")
        for case, value in scores.items():
            if math.isfinite(value):
                sums[places[subjects[case]], column] += (value, 1)
    return sums


def _subtract(totals: np.ndarray) -> np.ndarray:
    """Return the mean of each score minus that of the baseline, from sums and numbers (..., K + 1, 2)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = totals[..., 0] / totals[..., 1]
    return np.asarray(means[..., :-1] - means[..., -1:])


def _resample(sums: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield sums over drawn subjects (R, K + 1, 2), a chunk of resamples at a time."""
    for often in _draw_subjects(len(sums), resamples, seed):
        yield np.tensordot(often, sums, axes=1)


def _draw_subjects(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each subject is drawn (R, S), a chunk of resamples at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        drawn = generator.integers(0, count, (min(_CHUNK, resamples - start), count))
        # Counts of drawn subjects times their sums need no copy of the sums for every resample.
        often = np.zeros((len(drawn), count))
        np.add.at(often, (np.arange(len(drawn))[:, None], drawn), 1)
        yield often
