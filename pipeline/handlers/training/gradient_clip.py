"""Gradient clipping."""

from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents


@dataclass(eq=False, repr=False)
class GradientClip:
    """Scale the gradients down when their norm, over all parameters together, exceeds ``max_norm``.

    Neither MONAI nor ignite has such a handler. With a gradient scaler (float16 on CUDA) the gradients are unscaled
    first, so ``max_norm`` has the same meaning in every precision.

    Raises:
        ValueError: ``max_norm`` is not positive.

    Example:
        >>> GradientClip(torch.nn.Linear(1, 1), max_norm=0)
        Traceback (most recent call last):
        ...
        ValueError: max_norm must be above 0, got 0
    """

    network: torch.nn.Module  #: its gradients are clipped
    max_norm: float = 1.0  #: largest Euclidean norm, above 0

    def __post_init__(self) -> None:
        if not self.max_norm > 0:
            raise ValueError(f"max_norm must be above 0, got {self.max_norm}")

    def attach(self, engine: Engine) -> None:
        """Clip between the backward pass and the optimiser's step of ``engine``, the trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Clip the gradients of the last backward pass."""
        trainer: Any = engine
        if getattr(trainer, "scaler", None) is not None:
            trainer.scaler.unscale_(trainer.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
