"""The mean of several predictions, in a form that the activation after it expects."""

import math
from typing import Literal

import torch
import torch.nn.functional as F

Activation = Literal["sigmoid", "softmax"]
_KNOWN = (None, "sigmoid", "softmax")


class PredictionMean:
    r"""Average the outputs of a network, as they are or as probabilities.

    Probabilities are averaged as logarithms, so neither 0 nor 1 becomes infinite. With :math:`\sigma` the
    sigmoid, the result is :math:`\log \sum_i \sigma(x_i) - \log \sum_i \sigma(-x_i)`, whose sigmoid is the mean of
    :math:`\sigma(x_i)`; for softmax it is :math:`\log \frac{1}{n} \sum_i \mathrm{softmax}(x_i)`. The later
    steps (activation, threshold, arg-max) stay the same as for a single output.

    Args:
        activation: makes probabilities of the network's output: "sigmoid" (each channel separately) or "softmax" (over
            the channels, axis 1); None averages the outputs themselves.

    Raises:
        ValueError: the activation is unknown.

    Example:
        >>> mean = PredictionMean("sigmoid")
        >>> for p in (0.2, 0.4, 0.9):
        ...     mean.add(torch.tensor([[p]]).logit())
        >>> round(mean.compute().sigmoid().item(), 4)
        0.5
    """

    def __init__(self, activation: Activation | None = None) -> None:
        if activation not in _KNOWN:
            raise ValueError(f"activation must be 'sigmoid', 'softmax' or null, got {activation!r}")
        self.activation = activation
        self._count = 0
        self._terms: list[torch.Tensor] = []

    def add(self, output: torch.Tensor) -> None:
        """Add an output ``(B, C, *spatial)`` before the activation; all must have one shape."""
        terms = self._transform(output)
        if not self._terms:
            self._terms = terms
        elif self.activation is None:
            self._terms = [self._terms[0] + terms[0]]
        else:
            self._terms = [torch.logaddexp(total, term) for total, term in zip(self._terms, terms, strict=True)]
        self._count += 1

    def compute(self) -> torch.Tensor:
        """Return the mean ``(B, C, *spatial)``, before the activation.

        Raises:
            ValueError: there is no output to average.
        """
        if not self._count:
            raise ValueError("nothing to average: add an output first")
        if self.activation is None:
            return self._terms[0] / self._count
        if self.activation == "sigmoid":
            return self._terms[0] - self._terms[1]
        return self._terms[0] - math.log(self._count)

    def _transform(self, output: torch.Tensor) -> list[torch.Tensor]:
        if self.activation == "sigmoid":
            return [F.logsigmoid(output), F.logsigmoid(-output)]
        return [F.log_softmax(output, dim=1)] if self.activation == "softmax" else [output]
