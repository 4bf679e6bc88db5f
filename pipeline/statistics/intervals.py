"""Confidence intervals of the mean and the median of scores, by subject.

They were chosen by a simulation, `benchmarks/interval_coverage.py`.
Scores of segmentations are skewed, and a missed case scores 0. A sample of 13 cases often has none of the 5 % that a
method misses, and then its spread says nothing about them: t and bootstrap intervals of the mean hold the true mean in
50 to 90 % of such samples instead of 95 %. What a sample cannot show, the limits of the score can: Gaffke's bound
counts, besides the cases, one that nobody has seen and that has the worst score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pipeline.statistics.grouping import Array, group, sum_by_subject

RESAMPLES = 10_000
SEED = 0
#: With fewer subjects no interval of a mean is given
MIN_SUBJECTS = 10
#: The same of a median, where subjects have several cases
MIN_GROUPED = 20
MEAN_METHOD = "Gaffke's bound and BCa bootstrap"
LARGE_METHOD = "Gaffke's bound and percentile bootstrap"
MEDIAN_METHOD = "order statistics"

# Shares of the error of an interval of 95 % at the end of the unseen cases and at the other one. They add up to more
# than the error, because the first end is rarely wrong.
_FAR, _NEAR = 0.5, 0.7
_BATCH = 2_000_000  # numbers drawn at a time
_LARGE = 1000  # subjects from which BCa takes seconds and no longer differs from the percentile bootstrap


@dataclass(frozen=True)
class Interval:
    """A confidence interval, or the reason why there is none."""

    low: float | None  #: lower end
    high: float | None  #: upper end
    method: str  #: how it was computed
    n: int  #: number of subjects, the unit of resampling
    why_not: str = ""  #: why ``low`` and ``high`` are None; "" where they are numbers


def find_mean_interval(
    values: ArrayLike,
    subjects: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    limits: tuple[float, float] | None = (0.0, 1.0),
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """Return an interval of the mean over cases.

    The end on the side of the limit that is farther from the mean, for good scores the lower end, is Gaffke's bound
    (2005): the quantile of means with random weights (Dirichlet) over the subjects and one more that has the limit
    as its score. It holds whatever the distribution is, also if a kind of case that scores 0 was not seen. The
    other end is that of a BCa bootstrap (Efron 1987; from 1000 subjects the percentile one), see
    `scipy.stats.bootstrap`. Together they held 94 to 97.5 % in simulations of scores with 0 to 15 % missed cases,
    and more where misses are so rare that few samples show one.

    Args:
        values: (N,) scores, NaN for none.
        subjects: (N,), the subject of each case, drawn with all its cases; None if each case is one.
        level: confidence level.
        limits: least and greatest possible score; None for a distance, whose mean has no interval that holds.
        resamples: number of random weights and of bootstrap resamples.
        seed: random seed of both.

    Raises:
        ValueError: there is not one subject a value, or ``level`` is not between 0 and 1.

    Example:
        >>> scores = [0.91, 0.88, 0.93, 0.85, 0.9, 0.87, 0.92, 0.89, 0.9, 0.86, 0.91, 0.88]
        >>> interval = find_mean_interval(scores)
        >>> round(interval.low, 2), round(interval.high, 2)
        (0.65, 0.9)
        >>> find_mean_interval(scores[:5]).why_not
        '5 subjects are too few for a 95 % interval of the mean, at least 10 are needed'
    """
    _check_level(level)
    sums, counts = sum_by_subject(values, subjects)
    n = len(sums)
    why_not = _find_obstacle(np.asarray(values, dtype=float), n, level, limits)
    if why_not or limits is None:
        return Interval(None, None, MEAN_METHOD, n, why_not)
    least, width = limits[0], limits[1] - limits[0]
    scaled = (sums - least * counts) / width
    mirrored = scaled.sum() < counts.sum() / 2  # of a poor score the unseen cases are good ones
    goods = counts - scaled if mirrored else scaled
    low = find_lower_bound(goods, counts, (1 - level) * _FAR, resamples, seed)
    high = find_upper_end(goods, counts, (1 - level) * _NEAR, resamples, seed)
    low, high = (1 - high, 1 - low) if mirrored else (low, high)
    return Interval(least + width * low, least + width * high, MEAN_METHOD if n < _LARGE else LARGE_METHOD, n)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")


def _find_obstacle(values: Array, n: int, level: float, limits: tuple[float, float] | None) -> str:
    if limits is None:
        return "the mean of a quantity without an upper limit has no interval that holds: use the median"
    if n < MIN_SUBJECTS:
        return _describe_few(n, level, "mean", MIN_SUBJECTS)
    finite = values[np.isfinite(values)]
    if finite.min() < limits[0] or finite.max() > limits[1]:
        return f"there are values outside of {limits[0]:g} to {limits[1]:g}"
    return ""


def _describe_few(n: int, level: float, what: str, needed: int) -> str:
    few = "1 subject is" if n == 1 else f"{n} subjects are"
    return f"{few} too few for a {level * 100:g} % interval of the {what}, at least {needed} are needed"


def find_lower_bound(sums: Array, counts: Array, error: float, resamples: int, seed: int) -> float:
    """Return Gaffke's lower bound of a mean of scores from 0 to 1; the unseen subject has as many cases as the others.

    Gaffke 2005, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable",
    Mathematical Methods of Statistics 14; that it never errs too often is proved in special cases and was never refuted
    (Phan, Thomas and Learned-Miller 2021, ICML, "Towards practical mean bounds for small samples").
    """
    generator = np.random.default_rng(seed)
    size = max(1, _BATCH // len(sums))
    means = []
    for start in range(0, resamples, size):
        weights = generator.standard_exponential((min(size, resamples - start), len(sums) + 1))
        means.append(weights[:, :-1] @ sums / (weights[:, :-1] @ counts + weights[:, -1] * counts.mean()))
    return float(np.quantile(np.concatenate(means), error))


def find_upper_end(sums: Array, counts: Array, error: float, resamples: int, seed: int) -> float:
    """Return the upper end of a bootstrap of a mean of scores up to 1; of equal scores, Gaffke's upper bound."""
    if np.ptp(sums / counts) == 0:
        return 1 - find_lower_bound(counts - sums, counts, error, resamples, seed)
    found = stats.bootstrap(
        (sums, counts),
        lambda drawn, number, axis=-1: drawn.sum(axis=axis) / number.sum(axis=axis),
        paired=True,
        vectorized=True,
        confidence_level=1 - error,
        alternative="less",
        n_resamples=resamples,
        batch=max(1, _BATCH // len(sums)),
        method="BCa" if len(sums) < _LARGE else "percentile",
        rng=np.random.default_rng(seed),
    )
    return min(float(found.confidence_interval.high), 1.0)


def find_median_interval(values: ArrayLike, subjects: Sequence[str] | None = None, *, level: float = 0.95) -> Interval:
    """Return an interval of the median over cases; it needs no limits, so it suits distances too.

    Of independent cases it lies between the two exact intervals of order statistics whose coverages are next to
    ``level``, interpolated as by Hettmansperger and Sheather (1986, Statistics & Probability Letters 4). If subjects
    have several cases, the share of cases below the median gets a t interval by subject, and the quantiles at its ends
    are taken (Woodruff 1952, Journal of the American Statistical Association 47).

    Args:
        values: (N,), NaN for none.
        subjects: (N,), the subject of each case; None if each case is one.
        level: confidence level.

    Raises:
        ValueError: there is not one subject a value, or ``level`` is not between 0 and 1.

    Example:
        >>> interval = find_median_interval(range(1, 14))
        >>> round(interval.low, 2), round(interval.high, 2)
        (3.68, 10.32)
        >>> find_median_interval([0.5, 0.7]).why_not
        '2 subjects are too few for a 95 % interval of the median, at least 6 are needed'
    """
    _check_level(level)
    array, places = group(values, subjects)
    n = int(places.max()) + 1 if len(places) else 0
    grouped = n < len(array)
    needed = max(MIN_GROUPED if grouped else 0, int(np.ceil(np.log2(2 / (1 - level)) - 1e-9)))
    if n < needed:
        return Interval(None, None, MEDIAN_METHOD, n, _describe_few(n, level, "median", needed))
    low, high = _invert_share(array, places, level) if grouped else _interpolate(np.sort(array), level)
    return Interval(low, high, f"{MEDIAN_METHOD} by subject" if grouped else MEDIAN_METHOD, n)


def _interpolate(ordered: Array, level: float) -> tuple[float, float]:
    n = len(ordered)
    depths = np.arange(1, n // 2 + 1)
    coverages = 1 - 2 * stats.binom.cdf(depths - 1, n, 0.5)
    depth = int(depths[coverages >= level][-1])
    wide, narrow = (1 - 2 * stats.binom.cdf(k - 1, n, 0.5) for k in (depth, depth + 1))
    share = (wide - level) / (wide - narrow)
    step = (n - depth) * share / (depth + (n - 2 * depth) * share)
    low = ordered[depth - 1] * (1 - step) + ordered[depth] * step
    high = ordered[n - depth] * (1 - step) + ordered[n - depth - 1] * step
    return float(low), float(high)


def _invert_share(array: Array, places: np.ndarray, level: float) -> tuple[float, float]:
    above = np.bincount(places, np.sign(array - np.median(array))) / 2
    n = len(above)
    error = np.sqrt(n / (n - 1) * np.sum((above - above.mean()) ** 2)) / len(array)
    half = stats.t.ppf((1 + level) / 2, n - 1) * error
    low, high = np.quantile(array, np.clip((0.5 - half, 0.5 + half), 0, 1), method="weibull")
    return float(low), float(high)
