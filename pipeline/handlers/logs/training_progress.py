"""Show how far a training is: loss, key metric and the time that is left."""

import time
from dataclasses import dataclass
from typing import Any

from ignite.engine import Engine, Events

from pipeline.handlers.logs.progress_display import MINUTE, ProgressDisplay, format_duration, on_terminal
from pipeline.handlers.run.exits import on_exception
from pipeline.handlers.training.non_finite_guard import read_loss


@dataclass(eq=False, repr=False)
class TrainingProgress:
    """Log a line per epoch, and draw a bar on a terminal.

    ``epoch 7/50  loss 0.213  dice_patient 0.861 (best)  14 s, 10 min left``: the mean loss of the epoch, the key metric
    if it was validated, the time that it took, and what is left of the run at the mean speed so far. Without a terminal
    there is also a line a minute within longer epochs; of shorter epochs one line a minute is logged, and always those
    of the first epoch, of the last one and of each new best one.

    Note:
        In ``train#handlers`` it comes after `TrainingCheckpoint`, which decides what is best.
    """

    evaluator: Engine  #: the engine that `monai.handlers.ValidationHandler` runs
    key_metric: str  #: name in ``evaluator.state.metrics``

    def __post_init__(self) -> None:
        self._display = ProgressDisplay()
        self._first = 0  # epochs that were done when this run began
        self._validated = -1

    def attach(self, engine: Engine) -> None:
        """Watch ``engine``, the trainer, and its validations."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_STARTED, self.begin_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
        engine.add_event_handler(Events.COMPLETED, self.finish)
        on_exception(engine, self._stop)
        self.evaluator.add_event_handler(Events.STARTED, self.begin_validation)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.advance_validation)
        self.evaluator.add_event_handler(Events.COMPLETED, self.end_validation, engine)

    def start(self, trainer: Engine) -> None:
        """Say which epochs come, and where they run."""
        state: Any = trainer.state
        self._display.start()
        self._first, self._started, self._told = state.epoch, time.monotonic(), 0.0
        if state.epoch < (state.max_epochs or 0):
            where = f" on {state.device}" if getattr(state, "device", None) is not None else ""
            epochs = f"epochs {state.epoch + 1} to {state.max_epochs}"
            self._display.write(f"training: {epochs}{where}, {state.epoch_length} iterations each")

    def begin_epoch(self, trainer: Engine) -> None:
        """Begin to count the iterations and to add up their losses."""
        state = trainer.state
        self._begun, self._losses, self._iterations = time.monotonic(), 0.0, 0
        self._display.begin(self._name_epoch(state), state.epoch_length, "iterations")

    def _name_epoch(self, state: Any) -> str:
        return f"epoch {state.epoch}/{state.max_epochs}"

    def advance(self, trainer: Engine) -> None:
        """Show an iteration."""
        loss = read_loss(trainer.state.output)
        self._iterations += 1
        self._losses += float("nan") if loss is None else loss
        # A time budget plans number and length of the epochs anew within the first one.
        self._display.plan(self._name_epoch(trainer.state), trainer.state.epoch_length)
        self._display.advance(self._iterations, lambda: self._describe(trainer))

    def _describe(self, trainer: Engine) -> tuple[str, str]:
        state = trainer.state
        share = self._iterations / state.epoch_length if state.epoch_length else 1.0
        left = self._estimate(state.epoch - 1 + share, state.max_epochs)
        return f"loss {self._losses / self._iterations:.3g}", f"{format_duration(left)} for the run"

    def _estimate(self, done: float, total: int | None) -> float:
        """Return the seconds until ``total`` epochs are done."""
        passed = time.monotonic() - self._started
        return passed / (done - self._first) * ((total or done) - done)

    def begin_validation(self, evaluator: Engine) -> None:
        """Show the validation in place of the epoch."""
        self._display.begin("validation", evaluator.state.epoch_length, "cases")

    def advance_validation(self, evaluator: Engine) -> None:
        """Show a case of the validation."""
        length = evaluator.state.epoch_length or evaluator.state.iteration
        self._display.advance((evaluator.state.iteration - 1) % length + 1)

    def end_validation(self, evaluator: Engine, trainer: Engine) -> None:
        """Remember that the epoch was validated."""
        self._validated = trainer.state.epoch
        self._display.end()

    def end_epoch(self, trainer: Engine) -> None:
        """Log the epoch's line, if it is due or important."""
        self._display.end()
        epoch, total = trainer.state.epoch, trainer.state.max_epochs
        ends = epoch == self._first + 1 or epoch == total or trainer.should_terminate
        due = on_terminal() or time.monotonic() - self._told >= MINUTE
        if not (ends or due or self._is_best(epoch)):
            return
        self._told = time.monotonic()
        left = self._estimate(epoch, total)
        times = [format_duration(time.monotonic() - self._begun), *([f"{format_duration(left)} left"] if left else [])]
        loss = f"loss {self._losses / max(1, self._iterations):.3g}"
        parts = [f"epoch {epoch}/{total}", loss, self._describe_metric(epoch), ", ".join(times)]
        self._display.write("  ".join(filter(None, parts)))

    def _is_best(self, epoch: int) -> bool:
        return self._validated == epoch == getattr(self.evaluator.state, "best_metric_epoch", None)

    def _describe_metric(self, epoch: int) -> str:
        if self._validated != epoch or self.key_metric not in self.evaluator.state.metrics:
            return ""
        best = _read_best(self.evaluator)
        note = " (best)" if self._is_best(epoch) else f" (best {best[0]:.3f})" if best else ""
        return f"{self.key_metric} {float(self.evaluator.state.metrics[self.key_metric]):.3f}{note}"

    def finish(self, trainer: Engine) -> None:
        """Say how many epochs are done, and which is the best."""
        done = trainer.state.epoch - self._first
        best = _read_best(self.evaluator)
        parts = [f"{done} epoch{'s' * (done != 1)} in {format_duration(time.monotonic() - self._started)}"]
        if best is not None:
            parts.append(f"best {self.key_metric} {best[0]:.3f} in epoch {best[1]}")
        self._display.write("; ".join(parts))
        self._display.close()

    def _stop(self, trainer: Engine, error: BaseException) -> None:
        self._display.close()


def _read_best(evaluator: Engine) -> tuple[float, int] | None:
    state: Any = evaluator.state
    epoch = getattr(state, "best_metric_epoch", -1)
    return (float(state.best_metric), int(epoch)) if epoch is not None and epoch > 0 else None
