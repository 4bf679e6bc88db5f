"""The difference between two scores of the same cases, with a bootstrap interval by subject."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.statistics.intervals import RESAMPLES, SEED, take_interval

_CHUNK = 1000  # resamples at a time, so that memory does not grow with their number
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Difference:
    """The mean of one score minus that of another."""

    mean: float  #: difference of the means over the cases; NaN if one of them has no case with a value
    #: lower end of the 95 % percentile-bootstrap interval (Efron 1979); None for fewer than 2 subjects
    low: float | None
    high: float | None  #: upper end of it
    n_cases: int  #: number of cases compared
    n_subjects: int  #: number of subjects, the unit of resampling

    @property
    def is_gain(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low is not None and self.low > 0


def compare_paired(
    scores: Mapping[str, float],
    baseline: Mapping[str, float],
    subjects: Mapping[str, str],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Difference:
    """Compare two scores of the same cases.

    A resample draws subjects, each with all of its cases and both of their scores, because cases of one subject are
    not independent. A mean is over the cases that have a value, as metrics report it.

    Args:
        scores: score by case, NaN for none.
        baseline: of the same cases.
        subjects: subject by case.
        resamples: number of bootstrap resamples.
        seed: random seed of the resampling.

    Raises:
        ValueError: the two do not score the same cases.

    Example:
        >>> people = {"a1": "a", "a2": "a", "b": "b"}
        >>> result = compare_paired({"a1": 0.5, "a2": 0.7, "b": 0.9}, {"a1": 0.4, "a2": 0.6, "b": 0.8}, people)
        >>> round(result.mean, 3), round(result.low, 3), result.n_cases, result.n_subjects
        (0.1, 0.1, 3, 2)
    """
    sums = _sum_by_subject([scores], baseline, subjects)
    mean = float(_subtract(sums.sum(axis=0))[0])
    low = high = None
    if len(sums) > 1 and math.isfinite(mean):
        draws = np.concatenate([_subtract(drawn)[:, 0] for drawn in _resample(sums, resamples, seed)])
        low, high = take_interval(draws)
    return Difference(mean, low, high, len(scores), len(sums))


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
    candidate it agrees with the percentile interval of `compare_paired`: the share of resamples without a gain.

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
    generator = np.random.default_rng(seed)
    count = len(sums)
    for start in range(0, resamples, _CHUNK):
        drawn = generator.integers(0, count, (min(_CHUNK, resamples - start), count))
        # The counts of drawn subjects times their sums need no copy of the sums for every resample.
        often = np.zeros((len(drawn), count))
        np.add.at(often, (np.arange(len(drawn))[:, None], drawn), 1)
        yield np.tensordot(often, sums, axes=1)
