"""End a training after a given time, with a validation."""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from pipeline.handlers.checkpoints.atomic_save import write_json
from pipeline.parallel.agreement import agree_on

_LOGGER = logging.getLogger(__name__)
#: File in the output folder: seconds of training so far, and whether they were all that it got
FILE = "training_time.json"


@dataclass(eq=False, repr=False)
class TimeBudget:
    """End a training after the epoch in which its time is over, as if it were the last one.

    So the epoch is validated and saved, unlike with ignite's ``TimeLimit``, which stops between two iterations. The
    time of earlier runs that this one resumes counts, as far as they have saved epochs; at least one epoch is trained.
    The schedule of the learning rate is that of ``max_epochs``, and is cut off.

    Note:
        In ``train#handlers`` it comes after `TrainingRun`, whose checkpoint the saved time belongs to.
    """

    output_dir: str | Path  #: folder of the run, which gets `FILE`
    seconds: float  #: time for all epochs, validations included

    def attach(self, engine: Engine) -> None:
        """Watch ``engine``, the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        # Before the handlers of a complete epoch, which look whether it is the last one.
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.end_if_due)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def start(self, trainer: Engine) -> None:
        """Begin to count, in a resumed run from the time of the saved epochs on."""
        self._before = read_seconds(Path(self.output_dir)) if trainer.state.epoch else 0.0
        self._began, self._is_over = time.monotonic(), False

    def end_if_due(self, trainer: Engine) -> None:
        """Make this epoch the last one if the time is over; the first of several processes decides."""
        state: Any = trainer.state
        if state.iteration % state.epoch_length or state.epoch >= state.max_epochs:
            return
        if agree_on(self._count() >= self.seconds):
            _LOGGER.info("the time of this training is over after epoch %d of %d", state.epoch, state.max_epochs)
            state.max_epochs, self._is_over = state.epoch, True

    def save(self, trainer: Engine) -> None:
        """Write how long the saved epochs took."""
        if idist.get_rank() == 0:
            write_json({"seconds": round(self._count(), 1), "is_over": self._is_over}, Path(self.output_dir) / FILE)

    def _count(self) -> float:
        return self._before + time.monotonic() - self._began


def read_seconds(folder: Path) -> float:
    """Return the seconds that a training with a `TimeBudget` has used; 0 if there was none."""
    try:
        return float(json.loads((folder / FILE).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
