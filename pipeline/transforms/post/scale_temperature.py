"""Probabilities made less or more sure by one number, which changes no label."""

import math

import torch
from monai.transforms import Transform

from pipeline.transforms.dictionary import DictTransform

_SUM = 1e-3
_SMALLEST = 1e-12


class ScaleTemperature(Transform):
    """Divide the logarithms of probabilities by a temperature.

    Guo et al. 2017, ICML, "On calibration of modern neural networks".
    Probabilities that exclude each other (their sum is 1) become ``softmax(log(p) / T)``, others ``sigmoid(logit(p) /
    T)``. It acts on what comes out in the end, so also on the mean of flips, windows or networks. The likeliest label,
    and which side of 0.5 a probability lies on, stay exactly the same; a CRF or another threshold may act differently.

    Args:
        temperature: above 1 makes the probabilities less sure, below 1 surer, 1 changes nothing.

    Raises:
        ValueError: the temperature is not a positive number.

    Example:
        >>> ScaleTemperature(2.0)(torch.tensor([[0.9, 0.5, 0.1]])).numpy().round(3).tolist()
        [[0.75, 0.5, 0.25]]
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = float(temperature)
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be a number above 0, got {temperature}")

    def __call__(self, prob: torch.Tensor) -> torch.Tensor:
        """Scale probabilities (L, *spatial); of several channels that exclude each other the sum stays 1."""
        if self.temperature == 1:
            return prob
        values = prob.double().clamp(0, 1)
        if len(values) > 1 and bool(((values.sum(dim=0) - 1).abs() < _SUM).all()):
            scaled = torch.softmax(values.clamp(min=_SMALLEST).log() / self.temperature, dim=0).to(prob.dtype)
            return _keep_likeliest(scaled, prob.argmax(dim=0, keepdim=True))
        scaled = torch.sigmoid(torch.logit(values, eps=_SMALLEST) / self.temperature).to(prob.dtype)
        half = torch.full((), 0.5, dtype=scaled.dtype, device=scaled.device)
        below = torch.nextafter(half, torch.zeros_like(half))
        return torch.where((prob < 0.5) & (scaled >= 0.5), below, scaled)


def _keep_likeliest(scaled: torch.Tensor, likeliest: torch.Tensor) -> torch.Tensor:
    """Undo what rounding did to the order of two labels that are as good as equal."""
    highest = scaled.amax(dim=0, keepdim=True)
    moved = scaled.argmax(dim=0, keepdim=True) != likeliest
    above = torch.nextafter(highest, torch.full_like(highest, 2.0))
    return torch.where(moved, scaled.scatter(0, likeliest, above), scaled)


class ScaleTemperatured(DictTransform, array=ScaleTemperature):
    """Dictionary version of :class:`ScaleTemperature`, with the same further arguments.

    Args:
        keys: items that hold probabilities (L, *spatial).
        allow_missing_keys: skip keys that a case does not have.
    """
