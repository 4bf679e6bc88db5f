"""Begin a learning-rate schedule anew when a training goes on after its end."""

import copy
import logging
from dataclasses import dataclass
from typing import Any

from ignite.engine import Engine, Events
from torch.optim.lr_scheduler import LRScheduler, PolynomialLR

from pipeline.handlers.checkpoints.restoring import count_steps

_LOGGER = logging.getLogger(__name__)
# Attributes in which the schedules of MONAI and torch keep their length.
_LENGTHS = ("t_total", "T_max", "total_steps")


@dataclass(eq=False, repr=False)
class ScheduleRestart:
    """Begin a schedule anew when the same trainer is run again after the schedule's end.

    This happens in the rounds of federated learning, each of which is a short training from new weights, and in
    notebooks. Without it the learning rate would be 0, or rise again where a cosine turns. A schedule that is longer
    than one run, such as one over all rounds, goes on, and so does one without a length.

    The restarts are those of Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
        >>> engine, rates = Engine(lambda engine, batch: rates.append(optimizer.param_groups[0]["lr"])), []
        >>> ScheduleRestart(schedule).attach(engine)
        >>> _ = engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: (optimizer.step(), schedule.step()))
        >>> for _ in range(2):
        ...     _ = engine.run([0], max_epochs=2)
        >>> rates
        [1.0, 0.5, 1.0, 0.5]
    """

    scheduler: LRScheduler  #: at its beginning

    def __post_init__(self) -> None:
        self._first = copy.deepcopy(self.scheduler.state_dict())
        self._rates = [group["lr"] for group in self.scheduler.optimizer.param_groups]
        self._begun = False

    def attach(self, engine: Engine) -> None:
        """Look at the schedule whenever ``engine``, the trainer, starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self) -> None:
        """Begin anew if this is not the first run and the schedule is over."""
        again, self._begun = self._begun, True
        length = _find_length(self.scheduler)
        if not again or length is None or count_steps(self.scheduler.state_dict()) < length:
            return
        self.scheduler.load_state_dict(copy.deepcopy(self._first))
        for group, rate in zip(self.scheduler.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate
        _LOGGER.info("the learning-rate schedule of %d steps is over: it begins anew", length)


def _find_length(scheduler: Any) -> int | None:
    names = (*_LENGTHS, "total_iters") if isinstance(scheduler, PolynomialLR) else _LENGTHS
    found = (getattr(scheduler, name, None) for name in names)
    return next((length for length in found if isinstance(length, int)), None)
