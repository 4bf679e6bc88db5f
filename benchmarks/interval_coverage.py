"""How often do intervals of the mean and the median hold the true value? Simulated scores like ours and unlike ours.

Scores are skewed towards 1 and a share of the cases is missed, with a score of 0; subjects have one or several cases.
The table of `docs/explanation/scores.md` and the choice in `pipeline.statistics.intervals` come from here. The methods
compute many samples at once; a test compares the chosen one with the function of the package.

Example:
    python benchmarks/interval_coverage.py --subjects 10 13 44 80 --samples 4000
"""

import argparse
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.statistics.intervals import find_median_interval

Array = NDArray[np.float64]
Ends = tuple[Array, Array]
LEVEL = 0.95
DRAWS = 2000  # resamples of a sample


@dataclass(frozen=True)
class Scores:
    """A distribution of scores."""

    name: str  #: of the shape
    parts: tuple[tuple[float, float, float], ...]  #: weight and both parameters of each beta distribution
    missed: float  #: share of cases with a score of 0
    cases: int = 1  #: largest number of cases of a subject
    shared: float = 0.7  #: probability that a case of a subject of several has the subject's own quantile

    @property
    def title(self) -> str:
        """Name for the table."""
        several = f", 1 to {self.cases} cases" if self.cases > 1 else ""
        return f"{self.name}, {100 * self.missed:g} % missed{several}"

    @property
    def mean(self) -> float:
        """The true mean."""
        return (1 - self.missed) * sum(weight * a / (a + b) for weight, a, b in self.parts)

    @property
    def median(self) -> float:
        """The true median."""
        grid = np.linspace(0, 1, 20_001)
        below = self.missed + (1 - self.missed) * sum(w * stats.beta.cdf(grid, a, b) for w, a, b in self.parts)
        return float(np.interp(0.5, below, grid))

    def draw(self, subjects: int, samples: int, generator: np.random.Generator) -> tuple[Array, Array]:
        """Return scores (subjects, samples, cases), NaN where a subject has fewer cases, and their numbers."""
        shape = (subjects, samples, self.cases)
        values = self._draw_cases(shape, generator)
        own = self._draw_cases((subjects, samples, 1), generator)
        if self.cases > 1:
            values = np.where(generator.random(shape) < self.shared, own, values)
        numbers = generator.integers(1, self.cases + 1, (subjects, samples, 1))
        values[np.arange(self.cases) >= np.broadcast_to(numbers, shape)] = np.nan
        return values, numbers[..., 0].astype(float)

    def _draw_cases(self, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
        weights = np.array([weight for weight, _, _ in self.parts])
        chosen = generator.choice(len(weights), shape, p=weights / weights.sum())
        values = np.zeros(shape)
        for number, (_, a, b) in enumerate(self.parts):
            values = np.where(chosen == number, generator.beta(a, b, shape), values)
        return np.where(generator.random(shape) < self.missed, 0.0, values)


SKEWED, NARROW = ((1.0, 8.0, 1.2),), ((1.0, 110.0, 15.0),)
TAILED = ((0.85, 30.0, 3.0), (0.15, 3.0, 4.0))
#: The method and its constants were chosen on these
FITTED = [
    *(Scores("skewed", SKEWED, missed) for missed in (0.0, 0.02, 0.05, 0.1, 0.15)),
    *(Scores("narrow", NARROW, missed) for missed in (0.0, 0.05, 0.1, 0.15)),
    *(Scores("tailed", TAILED, missed) for missed in (0.0, 0.05, 0.1)),
]
#: They had no part in the choice
HELD_OUT = [
    *(Scores("very skewed", ((1.0, 4.0, 0.5),), missed) for missed in (0.0, 0.03, 0.12)),
    *(Scores("two kinds", ((0.3, 20.0, 12.0), (0.7, 60.0, 5.0)), missed) for missed in (0.0, 0.04, 0.08)),
    *(Scores("middling", ((1.0, 3.0, 2.0),), missed) for missed in (0.0, 0.1)),
    Scores("near 1", ((1.0, 60.0, 2.0),), 0.0),
    Scores("poor", ((1.0, 1.2, 6.0),), 0.3),
    *(Scores("skewed", SKEWED, missed, cases=4) for missed in (0.0, 0.05, 0.1)),
    Scores("tailed", TAILED, 0.05, cases=6),
]
#: Misses that few samples show: an interval that holds here holds nearly always, see the document
RARE = [Scores("narrow", NARROW, missed) for missed in (0.005, 0.01, 0.02)]


@dataclass(frozen=True)
class Samples:
    """Samples of subjects, each array (S, samples)."""

    sums: Array  #: of scores
    counts: Array  #: of cases

    @property
    def mean(self) -> Array:
        """Mean over the cases of each sample."""
        return np.asarray(self.sums.sum(axis=0) / self.counts.sum(axis=0))

    @property
    def error(self) -> Array:
        """Standard error of the mean, by subject."""
        n = len(self.sums)
        rest = self.sums - self.mean * self.counts
        return np.asarray(np.sqrt(n / (n - 1) * (rest**2).sum(axis=0)) / self.counts.sum(axis=0))


def find_t(samples: Samples) -> Ends:
    """Student's t interval."""
    half = stats.t.ppf((1 + LEVEL) / 2, len(samples.sums) - 1) * samples.error
    return samples.mean - half, samples.mean + half


def find_logit_t(samples: Samples) -> Ends:
    """Student's t interval of the mean's logit, by the delta method."""
    mean = np.clip(samples.mean, 1e-9, 1 - 1e-9)
    half = stats.t.ppf((1 + LEVEL) / 2, len(samples.sums) - 1) * samples.error / (mean * (1 - mean))
    centre = np.log(mean / (1 - mean))
    return 1 / (1 + np.exp(half - centre)), 1 / (1 + np.exp(-half - centre))


def find_percentile(samples: Samples) -> Ends:
    """Percentile bootstrap."""
    means, _ = _resample(samples)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def find_bootstrap_t(samples: Samples) -> Ends:
    """Studentised bootstrap; without cases of several subjects in mind."""
    means, errors = _resample(samples)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(means == samples.mean, 0.0, (means - samples.mean) / errors)
    low, high = np.quantile(np.nan_to_num(ratios, posinf=1e9, neginf=-1e9), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return samples.mean - high * samples.error, samples.mean - low * samples.error


def find_bca(samples: Samples) -> Ends:
    """BCa bootstrap (Efron 1987)."""
    return _find_bca_end(samples, (1 - LEVEL) / 2), _find_bca_end(samples, (1 + LEVEL) / 2)


def find_empirical_likelihood(samples: Samples) -> Ends:
    """Empirical likelihood (Owen 1988) with an F quantile; the ends by bisection."""
    limit = stats.f.ppf(LEVEL, 1, len(samples.sums) - 1)
    ends = []
    for border in (0.0, 1.0):
        inner, outer = samples.mean, np.full_like(samples.mean, border)
        for _ in range(25):
            middle = (inner + outer) / 2
            held = _find_log_ratio(samples, middle) <= limit
            inner, outer = np.where(held, middle, inner), np.where(held, outer, middle)
        ends.append(inner)
    return ends[0], ends[1]


def find_chosen(samples: Samples) -> Ends:
    """Gaffke's bound at the end of the unseen cases, BCa at the other; as `find_mean_interval` computes it."""
    mirrored = samples.mean < 0.5
    goods = Samples(np.where(mirrored, samples.counts - samples.sums, samples.sums), samples.counts)
    low = _find_gaffke(goods, 0.5 * (1 - LEVEL))
    high = np.minimum(_find_bca_end(goods, 1 - 0.7 * (1 - LEVEL)), 1)
    return np.where(mirrored, 1 - high, low), np.where(mirrored, 1 - low, high)


METHODS: dict[str, Callable[[Samples], Ends]] = {
    "t": find_t,
    "logit t": find_logit_t,
    "percentile": find_percentile,
    "BCa": find_bca,
    "bootstrap-t": find_bootstrap_t,
    "emp. likelihood": find_empirical_likelihood,
    "chosen": find_chosen,
}


def _resample(samples: Samples) -> Ends:
    n = len(samples.sums)
    often = np.random.default_rng(0).multinomial(n, [1 / n] * n, DRAWS).astype(float)
    counts = often @ samples.counts
    means = often @ samples.sums / counts
    squares = often @ samples.sums**2 - 2 * means * (often @ (samples.sums * samples.counts))
    squares += means**2 * (often @ samples.counts**2)
    return means, np.sqrt(n / (n - 1) * np.maximum(squares, 0)) / counts


def _find_bca_end(samples: Samples, share: float) -> Array:
    means = np.sort(_resample(samples)[0], axis=0)
    below = ((means < samples.mean).mean(axis=0) + (means <= samples.mean).mean(axis=0)) / 2
    bias = stats.norm.ppf(np.clip(below, 1e-6, 1 - 1e-6))
    left_out = (samples.sums.sum(axis=0) - samples.sums) / (samples.counts.sum(axis=0) - samples.counts)
    rest = left_out.mean(axis=0) - left_out
    with np.errstate(invalid="ignore", divide="ignore"):
        acceleration = np.nan_to_num((rest**3).sum(axis=0) / (6 * (rest**2).sum(axis=0) ** 1.5))
    point = bias + stats.norm.ppf(share)
    shares = stats.norm.cdf(bias + point / (1 - acceleration * point))
    places = np.clip((shares * DRAWS).astype(int), 0, DRAWS - 1)
    return np.asarray(means[places, np.arange(means.shape[1])])


def _find_gaffke(samples: Samples, error: float) -> Array:
    weights = np.random.default_rng(0).standard_exponential((DRAWS, len(samples.sums) + 1))
    unseen = weights[:, -1:] * samples.counts.mean(axis=0)
    means = weights[:, :-1] @ samples.sums / (weights[:, :-1] @ samples.counts + unseen)
    return np.asarray(np.quantile(means, error, axis=0))


def _find_log_ratio(samples: Samples, mean: Array) -> Array:
    """Return -2 times the log of the empirical likelihood ratio of a mean; infinite outside of the scores."""
    rest = samples.sums - mean * samples.counts
    low, high = -1 / np.maximum(rest.max(axis=0), 1e-12), -1 / np.minimum(rest.min(axis=0), -1e-12)
    for _ in range(40):
        middle = (low + high) / 2
        slope = (rest / np.maximum(1 + middle * rest, 1e-12)).sum(axis=0)
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    ratio = 2 * np.log(np.maximum(1 + (low + high) / 2 * rest, 1e-12)).sum(axis=0)
    return np.where((rest.max(axis=0) <= 0) | (rest.min(axis=0) >= 0), np.inf, ratio)


def measure_mean(scores: Scores, subjects: int, samples: int, methods: Sequence[str]) -> dict[str, float]:
    """Return the share of samples whose interval of the mean holds the true mean, by method."""
    values, counts = scores.draw(subjects, samples, _seed(scores, subjects))
    drawn = Samples(np.nansum(values, axis=-1), counts)
    found = {}
    for name in methods:
        low, high = METHODS[name](drawn)
        found[name] = float(((low <= scores.mean + 1e-9) & (scores.mean <= high + 1e-9)).mean())
    return found


def measure_median(scores: Scores, subjects: int, samples: int) -> float:
    """Return the share of samples whose interval of the median holds the true median; NaN if there is no interval."""
    values, _ = scores.draw(subjects, samples, _seed(scores, subjects))
    names = np.repeat(np.arange(subjects).astype(str), scores.cases).tolist()
    hits = []
    for sample in range(samples):
        interval = find_median_interval(values[:, sample].reshape(-1), names, level=LEVEL)
        if interval.low is None or interval.high is None:
            return float("nan")
        hits.append(interval.low <= scores.median <= interval.high)
    return float(np.mean(hits))


def _seed(scores: Scores, subjects: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(scores.title.encode()), subjects])


def print_table(title: str, rows: Sequence[Scores], subjects: Sequence[int], samples: int) -> None:
    """Print the coverage in percent of each method, a line for each distribution and number of subjects."""
    print(f"\n{title}\n{'scores':34}{'n':>4}", *(f"{name:>15}" for name in METHODS), f"{'median':>8}")
    for scores in rows:
        for n in subjects:
            found = measure_mean(scores, n, samples, list(METHODS))
            median = measure_median(scores, n, samples // 4)
            cells = [f"{100 * found[name]:15.1f}" for name in METHODS]
            print(f"{scores.title:34}{n:4}", *cells, f"{100 * median:8.1f}", flush=True)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[5, 8, 10, 13, 20, 44, 80, 200])
    parser.add_argument("--samples", type=int, default=4000)
    args = parser.parse_args()
    for title, rows in (("fitted", FITTED), ("held out", HELD_OUT), ("rare misses", RARE)):
        print_table(f"{title}: coverage in % of intervals of {LEVEL:.0%}", rows, args.subjects, args.samples)


if __name__ == "__main__":
    main()
