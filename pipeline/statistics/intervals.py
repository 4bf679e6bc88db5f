"""Confidence intervals from percentiles of bootstrap resamples (Efron 1979, Annals of Statistics 7)."""

import numpy as np

RESAMPLES = 10_000
SEED = 0


def bootstrap_mean(
    values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float] | tuple[None, None]:
    """Return the 95 % interval of a mean.

    Args:
        values: (N,), independent values.
        resamples: number of bootstrap resamples.
        seed: random seed of the resampling.

    Returns:
        Lower and upper end; None for fewer than 2 values.

    Example:
        >>> bootstrap_mean(np.array([0.0, 1.0]))
        (0.0, 1.0)
    """
    if len(values) < 2:
        return None, None
    draws = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    return take_interval(values[draws].mean(axis=1))


def take_interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the central 95 % of a statistic's resamples (R,); NaN values are left out."""
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return float(low), float(high)
