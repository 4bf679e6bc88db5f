"""Give a training a time: epochs, validations and the learning rate's schedule are made to end with it."""

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch.optim.lr_scheduler import LRScheduler

from pipeline.handlers.checkpoints.atomic_save import write_json
from pipeline.handlers.logs.progress_display import format_duration
from pipeline.handlers.run.batch_cases import has_no_cases
from pipeline.handlers.training.epoch_plan import EpochPlan, count_further_epochs, count_validations, plan_epochs
from pipeline.handlers.training.rate_curve import RateCurve
from pipeline.issues import InputError
from pipeline.parallel.agreement import agree_on, collect

_LOGGER = logging.getLogger(__name__)
#: File in the output folder: seconds of training so far, whether they were all that it got, and its speed
FILE = "training_time.json"
# Speed is measured over this share of the time, and over a few iterations unless they are slow.
_MEASURED, _MEASURED_AT_MOST, _ITERATIONS = 0.02, 0.1, 4
# A case that takes more than this share of the time is not tried twice.
_PROBE = 0.005
# Validations that take so much longer than the plan says are planned anew.
_SURPRISE = 1.5
# A resumed run with less than this share of its time is over.
_LEAST = 0.03
_ROUNDING = 1e-6  # of a number of iterations


@dataclass(eq=False, repr=False)
class TimeBudget:
    """End a training with its time, at the end of the schedule of the learning rate.

    After the first iterations, whose speed is measured, one line says what fits: all epochs; or fewer or shorter ones,
    with validations that take at most a fifth of the time. Then the schedule is compressed: it follows the iterations,
    from its first to its last step. After each epoch the plan is mended. At least one epoch is trained, and the last
    one is validated and saved.

    The time of earlier runs that this one resumes counts, as far as they have saved epochs: it continues with the time
    that is left, at the place of the schedule that belongs to the time used.

    Raises:
        InputError: the time is negative.

    Note:
        In ``train#handlers`` it comes after `TrainingCheckpoint`, whose checkpoint the saved time belongs to.
    """

    output_dir: str | Path  #: folder of the run, which gets `FILE`
    seconds: float  #: time for all epochs, validations included; not for the start of the program
    schedulers: Sequence[LRScheduler] = ()  #: schedules to compress; without them they are cut off
    evaluator: Engine | None = None  #: the engine that `monai.handlers.ValidationHandler` runs
    interval: int = 1  #: of the validations, in epochs

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise InputError(f"budget_minutes must be a number from 0, got {self.seconds / 60:g}")

    def attach(self, engine: Engine) -> None:
        """Watch ``engine``, the trainer, and its validations."""
        steps = int(engine.state.max_epochs or 1)
        self._curves = [RateCurve(scheduler, steps) for scheduler in self.schedulers]
        engine.add_event_handler(Events.STARTED, self.start)
        # The epoch's first rate is there for those who record it when the epoch starts.
        engine.add_event_handler(Events.EPOCH_STARTED, self.begin_epoch)
        engine.add_event_handler(Events.ITERATION_STARTED, lambda trainer: self.follow(trainer.state.iteration - 1))
        # Before the handlers of a complete epoch, which look whether it is the last one.
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.STARTED, self.begin_validation)
            self.evaluator.add_event_handler(Events.COMPLETED, self.end_validation)

    def start(self, trainer: Engine) -> None:
        """Begin to count, in a resumed run from the time of the saved epochs on."""
        state: Any = trainer.state
        saved = _read(Path(self.output_dir)) if state.epoch else {}
        self._before = float(saved.get("seconds") or 0.0)
        self._iteration, self._validation = saved.get("iteration"), saved.get("validation") or 0.0
        self._began, self._validating, self._iterations = time.monotonic(), 0.0, 0
        self._epochs, self._whole = int(state.max_epochs), int(state.epoch_length)
        self._trained = int(state.iteration)
        # Epochs of a run that had no budget are a part of the schedule, but not of the time.
        self._passed = state.epoch / self._epochs if state.epoch and not saved else 0.0
        self._plan: EpochPlan | None = None
        self._is_tight = self._is_over = False
        if state.epoch and self.seconds - self._before < _LEAST * self.seconds:
            self._is_over, state.max_epochs = True, state.epoch
            text = "the budget of %s is used up after %d epochs: raise --budget_minutes to continue"
            _LOGGER.warning(text, format_duration(self.seconds), state.epoch)
        elif self._iteration is not None and state.epoch < self._epochs:
            self._make_plan(trainer, state.epoch, 0)

    def begin_epoch(self, trainer: Engine) -> None:
        """Plan once more if the validations take much longer than the plan says; set the epoch's first rate."""
        done = trainer.state.epoch - 1
        if self._is_tight and agree_on(self._validation > _SURPRISE * self._planned):
            self._iteration = self._measure_iteration()
            self._make_plan(trainer, done, 0)
        elif self._is_tight and self._iterations:
            self._fit_length(trainer, done)
        self.follow(trainer.state.iteration)

    def follow(self, done: int) -> None:
        """Set the learning rate of the iteration that comes after ``done`` others."""
        if self._is_tight:
            share = self._find_share(done)
            for curve in self._curves:
                curve.follow(share)

    def advance(self, trainer: Engine) -> None:
        """Measure an iteration; plan when the speed is known, and mend the plan after each epoch."""
        state: Any = trainer.state
        self._iterations += 1
        if self._iterations == 1:
            self._warm = time.monotonic()
        ends = state.iteration % state.epoch_length == 0
        if self._plan is None and agree_on(ends or self._is_measured()):
            warm = self._iterations - 1
            self._iteration = (time.monotonic() - self._warm) / warm if warm else time.monotonic() - self._began
            self._validation = self._estimate_validation()
            self._make_plan(trainer, state.epoch - 1, self._iterations)
            ends = state.iteration % state.epoch_length == 0
        if ends and state.epoch < self._epochs:
            self._mend_plan(trainer)

    def _is_measured(self) -> bool:
        share = (time.monotonic() - self._began) / self.seconds if self.seconds else 1.0
        return share >= (_MEASURED if self._iterations >= _ITERATIONS else _MEASURED_AT_MOST)

    def _make_plan(self, trainer: Engine, done: int, inside: int) -> None:
        """Set the number of epochs and their length; the first of several processes decides.

        ``done`` epochs are over, and ``inside`` iterations of the one that is running.
        """
        state: Any = trainer.state
        # Processes whose learning rates differ would end with different weights.
        share = collect(self._find_share(state.iteration) if self._is_tight else self._find_used())[0]
        speed = max(float(self._iteration or 0.0), 1e-9)
        seconds = max(0.0, self.seconds - self._count() + inside * speed)
        plan = plan_epochs(seconds, speed, self._validation, self._whole, self._epochs - done, self.interval)
        plan = self._plan = collect(plan)[0]
        state.epoch_length = max(plan.length, inside)
        state.max_epochs = done + plan.epochs
        state.iteration = done * state.epoch_length + inside
        self._is_tight = not plan.is_complete
        self._planned = self._validation
        self._begin_curve(trainer, share)
        _LOGGER.info("%s", self._tell(plan, 0.0 if inside else self._count()))

    def _mend_plan(self, trainer: Engine) -> None:
        """Find out after an epoch how many others fit."""
        state: Any = trainer.state
        epoch = self._measure_iteration() * state.epoch_length
        pending = 0.0 if state.epoch % self.interval else self._validation
        left, most = self.seconds - self._count() - pending, self._epochs - state.epoch
        further = collect(count_further_epochs(left, epoch, self._validation, state.epoch, most, self.interval))[0]
        share = self._find_share(state.iteration) if self._is_tight else state.epoch / self._epochs
        if state.epoch == state.max_epochs:
            further = 0  # the schedule is at its end
        self._is_tight = self._is_tight or further < most
        state.max_epochs = state.epoch + further
        if further:
            self._begin_curve(trainer, share)
        else:
            self._is_over = True
            _LOGGER.info("the time of this training is over after epoch %d of %d", state.epoch, self._epochs)

    def _fit_length(self, trainer: Engine, done: int) -> None:
        """Spread the time that is left evenly over the epochs to come, so that none of it stays unused."""
        state: Any = trainer.state
        tests = count_validations(done, state.max_epochs, self.interval) * self._validation
        seconds = (self.seconds - self._count() - tests) / (state.max_epochs - done)
        length = int(seconds / max(self._measure_iteration(), 1e-9) + _ROUNDING)
        # Not more iterations than were wanted, if it has become faster.
        wanted = self._whole * self._epochs - self._trained - self._iterations
        most = math.ceil(wanted / (state.max_epochs - done))
        length = max(1, min(length, most))
        length, share = collect((length, self._find_share(state.iteration)))[0]
        state.epoch_length, state.iteration = length, done * length
        self._begin_curve(trainer, share)

    def _begin_curve(self, trainer: Engine, share: float) -> None:
        """Go from a share of the schedule straight to its end, which is that of the last epoch."""
        state: Any = trainer.state
        self._share, self._from, self._to = share, state.iteration, state.max_epochs * state.epoch_length

    def _find_share(self, iteration: int) -> float:
        passed = (iteration - self._from) / max(1, self._to - self._from)
        return self._share + (1.0 - self._share) * passed

    def _estimate_validation(self) -> float:
        """Return the seconds of a validation that has not taken place yet: those of its first case, for all cases."""
        evaluator: Any = self.evaluator
        loader = getattr(evaluator, "data_loader", None)
        if evaluator is None or not loader or has_no_cases(evaluator):
            return 0.0
        times = []
        with torch.no_grad():
            for _ in range(2):  # the first time may be slow
                began = time.monotonic()
                batch = loader.collate_fn([loader.dataset[0]])
                image = evaluator.prepare_batch(batch, evaluator.state.device, evaluator.non_blocking)[0]
                evaluator.network.eval()
                evaluator.inferer(image, evaluator.network)
                times.append(time.monotonic() - began)
                if times[0] > _PROBE * self.seconds:
                    break
        evaluator.network.train()
        self._validating += sum(times)
        return min(times) * len(loader)

    def begin_validation(self) -> None:
        """Begin to measure a validation."""
        self._validated = time.monotonic()

    def end_validation(self) -> None:
        """Keep what the last validation took."""
        self._validation = time.monotonic() - self._validated
        self._validating += self._validation

    def save(self, trainer: Engine) -> None:
        """Write how long the saved epochs took, and the speed from which a resumed run makes its plan."""
        if idist.get_rank() == 0:
            speed = self._measure_iteration()
            times = {"seconds": round(self._count(), 1), "is_over": self._is_over}
            write_json(
                {**times, "iteration": round(speed, 6), "validation": round(self._validation, 3)},
                Path(self.output_dir) / FILE,
            )

    def describe(self) -> dict[str, Any]:
        """Return the entry of the run's record."""
        plan = self._plan
        planned = {} if plan is None else {"iterations": plan.length, "whole": plan.is_complete}
        return {
            "budget": {
                "seconds": round(self.seconds, 1),
                "used_before": round(self._before, 1),
                "used": round(self._count(), 1),
                **planned,
            }
        }

    def _measure_iteration(self) -> float:
        """Return the mean seconds of an iteration of this run, the wait for its data included."""
        return (self._count() - self._before - self._validating) / max(1, self._iterations)

    def _find_used(self) -> float:
        used = min(1.0, self._count() / self.seconds) if self.seconds else 1.0
        return self._passed + (1.0 - self._passed) * used

    def _count(self) -> float:
        return self._before + time.monotonic() - self._began

    def _tell(self, plan: EpochPlan, used: float) -> str:
        text = f"budget of {format_duration(self.seconds)}: "
        if used:
            text = f"budget of {format_duration(self.seconds)}, of which {format_duration(used)} are used: "
        if plan.is_complete:
            return f"{text}all {plan.epochs} epochs fit"
        speed = f"{plan.epochs} epochs of {plan.length} iterations ({self._iteration:.2g} s each)"
        tests = f"{plan.validations} validation{'s' * (plan.validations != 1)}"
        each = f" (about {format_duration(self._validation)} each)" if self._validation >= 0.05 else ""
        return f"{text}{speed} and {tests}{each} fit; the learning rate reaches its end with them"


def read_seconds(folder: Path) -> float:
    """Return the seconds that a training with a `TimeBudget` has used; 0 if there was none."""
    try:
        return float(_read(folder)["seconds"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def _read(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
