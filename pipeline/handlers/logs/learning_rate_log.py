"""Write the learning rate to TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch.optim import Optimizer

__all__ = ["LearningRateLog"]


@dataclass(eq=False, repr=False)
class LearningRateLog:
    """Write each epoch's learning rate to TensorBoard; MONAI's ``LrScheduleHandler`` only prints it.

    Args:
        summary_writer: TensorBoard's writer.
        optimizer: the optimizer; with several parameter groups each gets a curve.
        tag: name of the curve.
    """

    summary_writer: Any
    optimizer: Optimizer
    tag: str = "learning_rate"

    def attach(self, engine: Engine) -> None:
        """Write when an epoch of ``engine``, the trainer, starts."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the current rates at the number of the epoch that starts."""
        if idist.get_rank() != 0:
            return
        groups = self.optimizer.param_groups
        for number, group in enumerate(groups):
            tag = self.tag if len(groups) == 1 else f"{self.tag}/group_{number}"
            self.summary_writer.add_scalar(tag, float(group["lr"]), engine.state.epoch)
