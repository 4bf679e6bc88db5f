"""Show how far an evaluation or a prediction is, and its scores at the end."""

import time
from dataclasses import dataclass

import ignite.distributed as idist
from ignite.engine import Engine, Events

from pipeline.handlers.logs.progress_display import ProgressDisplay, format_duration
from pipeline.handlers.run.exits import on_exception
from pipeline.handlers.run.run_record import list_metrics


@dataclass(eq=False, repr=False)
class RunProgress:
    """Draw a bar with the time left on a terminal, log a line a minute without one, and at the end time and metrics.

    `TrainingRun` does the same for a training, see `TrainingProgress`.

    Example:
        >>> engine = Engine(lambda engine, batch: None)
        >>> RunProgress().attach(engine)
        >>> engine.run([0, 0]).iteration
        2
    """

    def __post_init__(self) -> None:
        self._display = ProgressDisplay()

    def attach(self, engine: Engine) -> None:
        """Watch ``engine``, an evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.COMPLETED, self.finish)
        on_exception(engine, self._stop)

    def start(self, engine: Engine) -> None:
        """Begin to count."""
        self._started, self._steps, self._cases = time.monotonic(), 0, 0
        alone = getattr(engine.state.dataloader, "batch_size", 1) == 1
        self._display.start()
        self._display.begin("", engine.state.epoch_length, "cases" if alone else "batches")

    def advance(self, engine: Engine) -> None:
        """Show that a batch is done; MONAI has decollated it into a list of cases."""
        batch = engine.state.batch
        self._steps += 1
        self._cases += len(batch) if isinstance(batch, list) else 1
        self._display.advance(self._steps)

    def finish(self, engine: Engine) -> None:
        """Log number, time and metrics; of several processes, each knows its own cases only."""
        passed = time.monotonic() - self._started
        cases = f"{self._cases} case{'s' * (self._cases != 1)}"
        what = cases if idist.get_world_size() == 1 else f"{cases} in the first process"
        each = f", {format_duration(passed / self._cases)} each" if self._cases > 1 else ""
        metrics = ", ".join(
            f"{name} {'nan' if value is None else format(value, '.4g')}" for name, value in list_metrics(engine).items()
        )
        self._display.end()
        self._display.write(f"{what} in {format_duration(passed)}{each}{': ' * bool(metrics)}{metrics}")
        self._display.close()

    def _stop(self, engine: Engine, error: BaseException) -> None:
        self._display.close()
