"""A learning-rate schedule as a curve that can be followed at any speed."""

import copy
import warnings
from typing import Any

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


class RateCurve:
    """The learning rates of a schedule from its first to its last step.

    Args:
        scheduler: at its beginning, which is kept; a `ReduceLROnPlateau` has no curve and keeps its rate.
        steps: of the whole schedule.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> curve = RateCurve(torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=4), steps=4)
        >>> curve.follow(0.625)
        >>> optimizer.param_groups[0]["lr"]
        0.375
    """

    def __init__(self, scheduler: LRScheduler, steps: int) -> None:
        self._optimizer = scheduler.optimizer  # whose groups are replaced when a checkpoint is loaded
        plateau = isinstance(scheduler, ReduceLROnPlateau)
        self._rates = [] if plateau else _list_rates(scheduler, self._optimizer.param_groups, steps)

    def follow(self, share: float) -> None:
        """Set the rates of a share of the schedule, from 0 to 1; between two steps they are interpolated."""
        if not self._rates:
            return
        place = min(1.0, max(0.0, share)) * (len(self._rates) - 1)
        step = min(int(place), max(0, len(self._rates) - 2))
        pair = zip(self._rates[step], self._rates[min(step + 1, len(self._rates) - 1)], strict=True)
        for group, (here, there) in zip(self._optimizer.param_groups, pair, strict=True):
            group["lr"] = here + (there - here) * (place - step)


def _list_rates(scheduler: LRScheduler, groups: list[dict[str, Any]], steps: int) -> list[list[float]]:
    """Step a schedule to its end, and bring it and the optimizer back."""
    state = copy.deepcopy(scheduler.state_dict())
    settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    rates = [[float(group["lr"]) for group in groups]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch misses the optimizer's steps
        for _ in range(steps):
            try:
                scheduler.step()
            except ValueError:  # OneCycleLR ends after total_steps
                break
            rates.append([float(group["lr"]) for group in groups])
    scheduler.load_state_dict(state)
    for group, values in zip(groups, settings, strict=True):
        group.update(values)
    return rates
