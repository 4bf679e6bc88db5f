"""A temperature that makes the probabilities fit the frequencies, fitted on validation cases.

It changes no label (`pipeline.transforms.ScaleTemperature`), so it is judged by the negative log-likelihood of the
truth (Guo et al. 2017) and not by Dice. Like the other values it is fitted again without a few subjects at a time and
judged on them.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize

from pipeline.metrics.calibration import Calibration, count_voxels, find_band, find_band_radii
from pipeline.metrics.label_maps import to_plain
from pipeline.statistics.paired import Difference, compare_paired
from pipeline.tuning.choice import average, split_folds

_RANGE = (0.1, 10.0)
_MOST = 20_000  # voxels of a case
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Sample:
    """Probabilities and truth of voxels of a case."""

    prob: torch.Tensor  #: (L, N); of one label that of the foreground
    truth: torch.Tensor  #: (N,), class ids

    @functools.cached_property
    def logs(self) -> torch.Tensor:
        """Logarithms of the probabilities (K, N) of all classes, the background first."""
        prob = self.prob.double()
        every = torch.cat([1 - prob, prob]) if len(prob) == 1 else prob
        return every.clamp(min=_SMALLEST).log().float()

    def scale(self, temperature: float) -> torch.Tensor:
        """Return the logarithms at a temperature, which is what `ScaleTemperature` does."""
        return torch.log_softmax(self.logs / temperature, dim=0)


@dataclass(frozen=True)
class TemperatureFit:
    """A temperature and the evidence for it."""

    fitted: float  #: the best one on all cases
    gain: Difference  #: how much lower the negative log-likelihood of held-out subjects is
    likelihoods: tuple[float, float]  #: mean negative log-likelihood per voxel of held-out subjects, without and with
    errors: tuple[float, float]  #: their expected calibration error, without and with it

    @property
    def is_kept(self) -> bool:
        """Whether it is written."""
        return self.gain.is_gain

    @property
    def value(self) -> float:
        """The temperature to use: 1 if it is not kept."""
        return self.fitted if self.is_kept else 1.0


def take_sample(prob: torch.Tensor, label: torch.Tensor) -> Sample:
    """Take voxels of the band of a case, see `pipeline.metrics.calibration`; of many, a regular part.

    Args:
        prob: (L, *spatial).
        label: (1, *spatial), class ids or numbers of objects.
    """
    radii, values, truth = find_band_radii(label), to_plain(prob).float().cpu(), to_plain(label)[0].cpu()
    truth = truth.long() if len(values) > 1 else (truth > 0).long()
    band = torch.zeros_like(truth, dtype=torch.bool)
    for number in range(1, max(2, len(values))):
        channel = values[number if len(values) > 1 else 0]
        band |= find_band(truth == number, channel >= 0.5, radii)
    places = band.flatten().nonzero()[:, 0]
    places = places[:: max(1, -(-len(places) // _MOST))]
    return Sample(values.flatten(1)[:, places], truth.flatten()[places])


def fit_temperature(
    cases: Sequence[str],
    open_case: Callable[[str], Sample],
    subjects: Mapping[str, str],
    *,
    resamples: int,
    seed: int,
) -> TemperatureFit:
    """Fit a temperature, and judge it on subjects that had no part in it.

    Args:
        cases: ids.
        open_case: returns the voxels of a case.
        subjects: subject by case.
        resamples: of the interval.
        seed: of folds and resamples.
    """
    samples = {case: sample for case in cases if len((sample := open_case(case)).truth)}
    known = {case: subjects[case] for case in samples}
    folds = [{case for case in fold if case in samples} for fold in split_folds(known, seed)]
    held: dict[str, float] = {}
    for fold in folds:
        temperature = _minimize([sample for case, sample in samples.items() if case not in fold])
        held |= dict.fromkeys(fold, temperature)
    before = {case: measure_likelihood(sample, 1.0) for case, sample in samples.items()}
    after = {case: measure_likelihood(sample, held[case]) for case, sample in samples.items()}
    return TemperatureFit(
        fitted=_minimize(list(samples.values())),
        gain=compare_paired(before, after, known, resamples=resamples, seed=seed),
        likelihoods=(average(before.values()), average(after.values())),
        errors=(
            average(_measure_error(sample, 1.0) for sample in samples.values()),
            average(_measure_error(sample, held[case]) for case, sample in samples.items()),
        ),
    )


def _minimize(samples: Sequence[Sample]) -> float:
    if not samples:
        return 1.0

    def lose(logarithm: float) -> float:
        return float(np.mean([measure_likelihood(sample, float(np.exp(logarithm))) for sample in samples]))

    found = optimize.minimize_scalar(lose, bounds=tuple(np.log(_RANGE)), method="bounded", options={"xatol": 1e-3})
    return float(f"{np.exp(found.x):.3g}")


def measure_likelihood(sample: Sample, temperature: float) -> float:
    """Return the mean negative log-likelihood of the truth per voxel.

    Example:
        >>> sample = Sample(torch.tensor([[0.5, 0.5]]), torch.tensor([0, 1]))
        >>> round(measure_likelihood(sample, 2.0), 4)  # ln 2
        0.6931
    """
    return -float(sample.scale(temperature).gather(0, sample.truth[None]).double().mean())


def _measure_error(sample: Sample, temperature: float) -> float:
    values = sample.scale(temperature).exp()
    tables = [count_voxels(values[number], sample.truth == number)[0] for number in range(1, len(values))]
    counted = Calibration(torch.stack(tables)[:, None], torch.zeros(len(tables), 1))
    return float(counted.error().nanmean())
