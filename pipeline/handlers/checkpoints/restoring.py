"""Put the state of a checkpoint into a training whose schedule or hyper-parameters may have changed.

A checkpoint says where a training was; the config says how it goes on. torch's ``load_state_dict`` mixes the two: the
schedule would keep its former length, and the optimizer its former learning rate and weight decay.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pipeline.issues import InputError
from pipeline.parallel.wrapped import unwrap_network
from pipeline.weights import find_misfit

_LOGGER = logging.getLogger(__name__)
_NEW_RUN = "or start a new run in another --output_dir"
# What a plateau scheduler has seen; all else are its settings.
_SEEN = {"best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr"}


def list_rates(objects: Mapping[str, Any]) -> list[float]:
    """List the learning rates of all parameter groups of all optimizers."""
    optimizers = [item for item in objects.values() if isinstance(item, Optimizer)]
    return [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]


def restore_objects(
    objects: Mapping[str, Any], saved: Mapping[str, Any], first_rates: Sequence[float] | None, path: Path
) -> None:
    """Restore weights, moments and position in the schedule; hyper-parameters are those of the config.

    Schedulers of torch are stepped as often as the saved one was, so the learning rate is the one that an
    uninterrupted run with the settings of now would have, to the last bit.

    Args:
        objects: fresh objects by name, as the config builds them.
        saved: their states.
        first_rates: `list_rates` at the start of the run that saved them; None if unknown.
        path: of the checkpoint, for the messages.

    Raises:
        InputError: a state does not fit, or the change of a setting cannot be carried over.
    """
    before = list_rates(objects)
    fixed = _find_rate_keepers(objects)
    if fixed and first_rates is not None and list(first_rates) != before:
        raise InputError(
            f"resume: the learning rate was {first_rates[0]:g} and is {before[0]:g}, but {type(fixed[0]).__name__} "
            f"cannot go on from {path} with another one: set it back, {_NEW_RUN}"
        )
    # The optimizer first: a schedule then sets its learning rate.
    for name, item in sorted(objects.items(), key=lambda pair: not isinstance(pair[1], Optimizer)):
        try:
            _restore(item, saved[name], path, keep_rates=bool(fixed))
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"resume: {path} does not fit this experiment: {name}: {error}") from None
    _report_rates(objects, saved)


def _find_rate_keepers(objects: Mapping[str, Any]) -> list[Any]:
    """Find what sets the learning rate by what it has seen: a plateau, or without a schedule an unknown object."""
    schedules = [item for item in objects.values() if isinstance(item, LRScheduler)]
    known = (torch.nn.Module, Optimizer)
    others = [] if schedules else [item for item in objects.values() if not isinstance(item, known)]
    return others + [item for item in schedules if isinstance(item, ReduceLROnPlateau)]


def _restore(item: Any, state: Mapping[str, Any], path: Path, *, keep_rates: bool) -> None:
    if isinstance(item, torch.nn.Module):
        network = unwrap_network(item)
        misfit = find_misfit(network.state_dict(), state)
        if misfit:
            raise ValueError(f"{misfit}; set network_def back, {_NEW_RUN}")
        network.load_state_dict(state)
    elif isinstance(item, Optimizer):
        _restore_optimizer(item, state, keep_rates=keep_rates)
    elif isinstance(item, ReduceLROnPlateau):
        _check_plateau(item, state, path)
        item.load_state_dict(dict(state))
    elif isinstance(item, LRScheduler):
        _replay(item, count_steps(state), path)
    else:
        item.load_state_dict(state)


def _restore_optimizer(optimizer: Optimizer, state: Mapping[str, Any], *, keep_rates: bool) -> None:
    fresh, groups = optimizer.state_dict()["param_groups"], []
    if len(fresh) != len(state["param_groups"]):
        raise ValueError(f"it has {len(state['param_groups'])} groups of parameters, expected {len(fresh)}")
    for now, then in zip(fresh, state["param_groups"], strict=True):
        rate = {"lr": then["lr"]} if keep_rates else {}
        groups.append({**now, **rate, "params": then["params"]})
    optimizer.load_state_dict({**state, "param_groups": groups})


def count_steps(state: Mapping[str, Any]) -> int:
    """Count the steps of a torch scheduler from its state; a `ChainedScheduler` counts in its parts.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        >>> optimizer.step(), schedule.step(), count_steps(schedule.state_dict())
        (None, None, 1)
    """
    return int(state["last_epoch"]) if "last_epoch" in state else count_steps(state["_schedulers"][0])


def _replay(scheduler: LRScheduler, steps: int, path: Path) -> None:
    done = count_steps(scheduler.state_dict())
    name = type(scheduler).__name__
    if done > steps:
        raise InputError(f"resume: {name} has gone on in this process after {path}: resume in a new process")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch misses the optimizer's steps, which are in the checkpoint
            for _ in range(steps - done):
                scheduler.step()
    except (ValueError, TypeError) as error:  # OneCycleLR ends after total_steps; a user's class may need arguments
        raise InputError(
            f"resume: the lr_scheduler {name} cannot be brought to step {steps} of {path}: {error}; "
            f"set max_epochs and lr_scheduler back, {_NEW_RUN}"
        ) from None


def _check_plateau(scheduler: ReduceLROnPlateau, state: Mapping[str, Any], path: Path) -> None:
    if "num_bad_epochs" not in state:
        raise ValueError(f"it is not the state of a ReduceLROnPlateau; set it back, {_NEW_RUN}")
    for name, value in scheduler.state_dict().items():
        if name not in _SEEN and name in state and state[name] != value:
            raise InputError(
                f"resume: {name} of ReduceLROnPlateau was {state[name]} and is {value}, but its learning rate depends "
                f"on the scores before {path}: set it back, {_NEW_RUN}"
            )


def _report_rates(objects: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    states = [saved[name] for name, item in objects.items() if isinstance(item, Optimizer)]
    then = [float(group["lr"]) for state in states for group in state["param_groups"]]
    now = list_rates(objects)
    if then != now:
        text = "the learning rate follows the settings of now: %.4g in the next epoch, where the former had %.4g"
        _LOGGER.info(text, now[0], then[0])
