"""Write the learning rate to TensorBoard."""

from dataclasses import dataclass
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch.optim import Optimizer


@dataclass(eq=False, repr=False)
class LearningRateLog:
    """Write each epoch's learning rate to TensorBoard; MONAI's ``LrScheduleHandler`` only prints it."""

    summary_writer: Any  #: TensorBoard's writer
    optimizer: Optimizer  #: the optimizer; with several parameter groups each gets a curve
    tag: str = "learning_rate"  #: name of the curve

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
