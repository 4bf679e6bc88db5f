"""The difference between two scores of the same cases, with a bootstrap interval by subject."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.reports.summary import RESAMPLES, SEED

__all__ = ["Difference", "compare_paired"]

_CHUNK = 1000  # resamples at a time: the memory does not grow with their number


@dataclass(frozen=True)
class Difference:
    """How much higher the mean of one score is than that of another.

    Attributes:
        mean: difference of the means over the cases; NaN if one of them has no case with a value.
        low: lower end of the 95 % percentile-bootstrap interval (Efron 1979); None for fewer than 2 subjects.
        high: upper end of it.
        n_cases: cases compared.
        n_subjects: subjects compared, the unit of resampling.
    """

    mean: float
    low: float | None
    high: float | None
    n_cases: int
    n_subjects: int

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

    A resample draws subjects, each with all of its cases and both of their scores, so that cases of one subject are
    never taken for independent ones. A mean is over the cases that have a value, as metrics report it.

    Args:
        scores: score by case, NaN for none.
        baseline: of the same cases.
        subjects: subject by case.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    Raises:
        ValueError: the two score other cases.

    Example:
        >>> people = {"a1": "a", "a2": "a", "b": "b"}
        >>> result = compare_paired({"a1": 0.5, "a2": 0.7, "b": 0.9}, {"a1": 0.4, "a2": 0.6, "b": 0.8}, people)
        >>> round(result.mean, 3), round(result.low, 3), result.n_cases, result.n_subjects
        (0.1, 0.1, 3, 2)
    """
    import numpy as np

    if scores.keys() != baseline.keys():
        raise ValueError(f"the scores are of {len(scores)} cases and the baseline of {len(baseline)} others")
    names = sorted({subjects[case] for case in scores})
    places = {name: place for place, name in enumerate(names)}
    # By subject: sum and number of the scores, then of the baseline's.
    sums = np.zeros((len(names), 4))
    for case in scores:
        for column, value in ((0, scores[case]), (2, baseline[case])):
            if math.isfinite(value):
                sums[places[subjects[case]], column : column + 2] += (value, 1)

    def subtract(totals: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(totals[..., 0] / totals[..., 1] - totals[..., 2] / totals[..., 3])

    mean = float(subtract(sums.sum(axis=0)))
    low = high = None
    if len(names) > 1 and math.isfinite(mean):
        generator = np.random.default_rng(seed)
        sizes = [min(_CHUNK, resamples - start) for start in range(0, resamples, _CHUNK)]
        draws = [subtract(sums[generator.integers(0, len(names), (size, len(names)))].sum(axis=1)) for size in sizes]
        low, high = (float(end) for end in np.nanpercentile(np.concatenate(draws), (2.5, 97.5)))
    return Difference(mean, low, high, len(scores), len(names))
