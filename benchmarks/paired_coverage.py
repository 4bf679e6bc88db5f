"""How often do intervals of a paired difference hold the true one? Simulated differences of two methods, by subject.

Differences are normal, have long tails, are skewed, or are 0 for many subjects, as where a clean-up changes nothing; or
one method misses a case that the other finds. The table of `docs/explanation/scores.md` and the choice in
`pipeline.statistics.paired` come from here. The methods compute many samples at once; a test compares the chosen one
with the function of the package.

Example:
    python benchmarks/paired_coverage.py --subjects 13 44 80 --samples 4000
"""

import argparse
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.statistics.paired import MIN_DIFFERING

Array = NDArray[np.float64]
Ends = tuple[Array, Array]
LEVEL = 0.95
SHARES = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
DRAWS = 1000  # resamples of a sample
_EFFECT, _SPREAD = 0.01, 0.03
_MISSED = (0.6, 0.95)  # what a missed case costs


@dataclass(frozen=True)
class Differences:
    """A distribution of the differences of two methods."""

    shape: str  #: "normal", "long tails" or "skewed"
    equal: float = 0.0  #: share of subjects that do not differ
    missed: float = 0.0  #: share of subjects of which the first method misses a case
    both: float = 0.0  #: share of subjects of which one of the two misses a case, as likely the first as the second

    @property
    def title(self) -> str:
        """Name for the table."""
        parts = {"equal": self.equal, "missed by one": self.missed, "missed by either": self.both}
        return ", ".join([self.shape, *(f"{100 * share:g} % {name}" for name, share in parts.items() if share)])

    @property
    def mean(self) -> float:
        """The true mean."""
        usual = _SPREAD if self.shape == "skewed" else _EFFECT
        share = 1 - self.missed - self.both
        return usual * (1 - self.equal) * share + self.missed * sum(_MISSED) / 2

    def draw(self, subjects: int, samples: int) -> Array:
        """Return differences (subjects, samples)."""
        generator = np.random.default_rng([zlib.crc32(self.title.encode()), subjects])
        shape = (subjects, samples)
        if self.shape == "normal":
            values = generator.normal(_EFFECT, _SPREAD, shape)
        elif self.shape == "skewed":
            values = generator.exponential(_SPREAD, shape)
        else:
            values = _EFFECT + _SPREAD * generator.standard_t(3, shape)
        values[generator.random(shape) < self.equal] = 0
        kind, cost = generator.random(shape), generator.uniform(*_MISSED, shape)
        sign = np.where(generator.random(shape) < 0.5, 1, -1)
        values = np.where(kind < self.missed, cost, values)
        return np.where((kind >= self.missed) & (kind < self.missed + self.both), sign * cost, values)


#: The intervals hold
HELD = [
    *(Differences("normal", equal) for equal in (0.0, 0.3, 0.5, 0.8)),
    *(Differences("long tails", equal) for equal in (0.0, 0.5)),
    *(Differences("skewed", equal) for equal in (0.0, 0.5, 0.8)),
    *(Differences("normal", both=both) for both in (0.02, 0.1)),
]
#: What decides is rare and goes one way: no interval of the sample holds
RARE = [Differences("normal", missed=missed) for missed in (0.01, 0.05, 0.1)]


def find_t(values: Array) -> Ends:
    """Student's t interval."""
    half = stats.t.ppf(SHARES[1], len(values) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return values.mean(axis=0) - half, values.mean(axis=0) + half


def find_percentile(values: Array) -> Ends:
    """Percentile bootstrap."""
    low, high = np.quantile(_resample(values)[0], SHARES, axis=0)
    return low, high


def find_bca(values: Array) -> Ends:
    """BCa bootstrap (Efron 1987)."""
    means, mean = np.sort(_resample(values)[0], axis=0), values.mean(axis=0)
    below = ((means < mean).mean(axis=0) + (means <= mean).mean(axis=0)) / 2
    bias, rest = stats.norm.ppf(np.clip(below, 1e-6, 1 - 1e-6)), values - mean
    with np.errstate(invalid="ignore", divide="ignore"):
        acceleration = np.nan_to_num((rest**3).sum(axis=0) / (6 * (rest**2).sum(axis=0) ** 1.5))
    ends = []
    for share in SHARES:
        point = bias + stats.norm.ppf(share)
        places = (stats.norm.cdf(bias + point / (1 - acceleration * point)) * DRAWS).astype(int)
        ends.append(means[np.clip(places, 0, DRAWS - 1), np.arange(means.shape[1])])
    return ends[0], ends[1]


def find_bootstrap_t(values: Array) -> Ends:
    """Studentised bootstrap."""
    means, errors = _resample(values)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(np.abs(means - mean) <= 1e-9, 0.0, (means - mean) / errors)
    low, high = np.nanquantile(np.where(np.isfinite(ratios), ratios, np.nan), SHARES, axis=0)
    return mean - high * error, mean - low * error


def find_chosen(values: Array) -> Ends:
    """The outer ends of Student's t and of the studentised bootstrap, as `compare_paired` computes them."""
    (low, high), (other_low, other_high) = find_t(values), find_bootstrap_t(values)
    return np.minimum(low, other_low), np.maximum(high, other_high)


METHODS: dict[str, Callable[[Array], Ends]] = {
    "t": find_t,
    "percentile": find_percentile,
    "BCa": find_bca,
    "bootstrap-t": find_bootstrap_t,
    "chosen": find_chosen,
}


def _resample(values: Array) -> Ends:
    n = len(values)
    often = np.random.default_rng(0).multinomial(n, [1 / n] * n, DRAWS).astype(float)
    means = often @ values / n
    return means, np.sqrt(np.maximum(often @ values**2 / n - means**2, 0) / (n - 1))


def measure(differences: Differences, subjects: int, samples: int) -> tuple[dict[str, float], float]:
    """Return the share of samples whose interval holds, by method, of those in which enough subjects differ.

    Returns:
        The shares, NaN where there is no such sample, and the share of samples in which enough subjects differ.
    """
    values = differences.draw(subjects, samples)
    shown = (values != 0).sum(axis=0) >= MIN_DIFFERING
    if not shown.any():
        return dict.fromkeys(METHODS, float("nan")), 0.0
    found = {}
    for name, method in METHODS.items():
        low, high = method(values[:, shown])
        found[name] = float(((low <= differences.mean + 1e-9) & (differences.mean <= high + 1e-9)).mean())
    return found, float(shown.mean())


def print_table(title: str, rows: Sequence[Differences], subjects: Sequence[int], samples: int) -> None:
    """Print the coverage in percent of each method, a line for each distribution and number of subjects."""
    print(f"\n{title}\n{'differences':34}{'n':>4}", *(f"{name:>12}" for name in METHODS), f"{'shown':>8}")
    for differences in rows:
        for n in subjects:
            found, shown = measure(differences, n, samples)
            cells = [f"{100 * found[name]:12.1f}" for name in METHODS]
            print(f"{differences.title:34}{n:4}", *cells, f"{100 * shown:8.1f}", flush=True)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[6, 10, 13, 20, 44, 80])
    parser.add_argument("--samples", type=int, default=4000)
    args = parser.parse_args()
    for title, rows in (("held", HELD), ("rare and one-sided: not held", RARE)):
        print_table(f"{title}: coverage in % of intervals of {LEVEL:.0%}", rows, args.subjects, args.samples)


if __name__ == "__main__":
    main()
