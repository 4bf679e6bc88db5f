"""Statistics of the scores of one metric: mean, median, spread, intervals by subject, worst case."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.datasets.manifests.manifest import make_subject_key, normalise_subject
from pipeline.runs.metric_names import find_limits, is_small_good
from pipeline.statistics.intervals import RESAMPLES, SEED, Interval, find_mean_interval, find_median_interval


@dataclass(frozen=True)
class Summary:
    """Statistics of one metric over the cases of one run."""

    metric: str  #: name, with its unit (``dice_patient``)
    n: int  #: cases with a value
    n_missing: int  #: cases without one (NaN or infinite), left out of the statistics
    n_zero: int  #: cases with a value of 0: the truth is missed completely, or there is foreground but no truth
    n_subjects: int  #: subjects of the cases with a value, the unit of resampling
    n_ungrouped: int  #: cases with a value whose subject is unknown; each counts as a subject of its own
    mean: float  #: mean over cases
    low: float | None  #: lower end of the 95 % interval of the mean, see `find_mean_interval`
    high: float | None  #: upper end of it
    median: float  #: median over cases
    median_low: float | None  #: lower end of the 95 % interval of the median, see `find_median_interval`
    median_high: float | None  #: upper end of it
    q1: float  #: first quartile
    q3: float  #: third quartile
    sd: float | None  #: standard deviation over cases (n - 1); None for fewer than 2 cases
    worst: tuple[str, float]  #: id and value of the case with the smallest value, of distances and losses the largest
    method: str  #: how the interval of the mean was computed
    why_not: str  #: why there is no interval of the mean; "" if there is one
    median_method: str  #: how the interval of the median was computed
    median_why_not: str  #: why there is none
    unit: str = "case"  #: what a case is: patient, volume, image, ...
    empty_policy: str | None = None  #: how masks without foreground score, see `pipeline.metrics.labelwise`
    n_empty: int | None = None  #: masks without truth, each class of a case for itself; None if not recorded
    n_missed: int | None = None  #: masks with truth, but nothing predicted


def summarize(
    metric: str,
    scores: Mapping[str, float],
    subjects: Mapping[str, str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Summary:
    """Summarise the scores of one metric; the unit of resampling is the subject. The fields with defaults stay as such.

    Args:
        metric: name of the metric; of a distance the mean gets no interval.
        scores: score by case id, NaN for none.
        subjects: subject by case id; a case without one is a subject of its own.
        resamples: number of resamples of an interval.
        seed: random seed of them.

    Raises:
        ValueError: no case has a value.

    Example:
        >>> result = summarize("dice_patient", {"a": 0.8, "b": 0.9, "c": float("nan")})
        >>> result.n, result.n_missing, round(result.mean, 3), result.worst
        (2, 1, 0.85, ('a', 0.8))
        >>> result.why_not
        '2 subjects are too few for a 95 % interval of the mean, at least 10 are needed'
    """
    valid = {case: score for case, score in scores.items() if math.isfinite(score)}
    if not valid:
        raise ValueError(f"{metric}: no case has a value")
    named = subjects or {}
    people = [make_subject_key(named.get(case, ""), case) for case in valid]
    values = np.array(list(valid.values()))
    mean = find_mean_interval(values, people, limits=find_limits(metric), resamples=resamples, seed=seed)
    median = find_median_interval(values, people)
    find_worst = max if is_small_good(metric) else min
    worst = find_worst(valid, key=lambda case: valid[case])
    q1, q3 = np.quantile(values, (0.25, 0.75))
    return Summary(
        metric=metric,
        n=len(values),
        n_missing=len(scores) - len(valid),
        n_zero=int((values == 0).sum()),
        n_subjects=mean.n,
        n_ungrouped=sum(not normalise_subject(named.get(case, "")) for case in valid),
        mean=float(values.mean()),
        median=float(np.median(values)),
        q1=float(q1),
        q3=float(q3),
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        worst=(worst, valid[worst]),
        **_spread(mean, median),
    )


def _spread(mean: Interval, median: Interval) -> dict[str, Any]:
    return {
        "low": mean.low,
        "high": mean.high,
        "method": mean.method,
        "why_not": mean.why_not,
        "median_low": median.low,
        "median_high": median.high,
        "median_method": median.method,
        "median_why_not": median.why_not,
    }
