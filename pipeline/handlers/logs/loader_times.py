"""Say when a training waits for its data."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from pipeline.parallel.workers import count_cores, find_most_useful

_LOGGER = logging.getLogger(__name__)
# Fewer cores than these are all needed by a network on the CPU; of more, the network leaves some time to a few workers.
_CORES, _WORKERS = 4, 2


@dataclass(eq=False, repr=False)
class LoaderTimes:
    """Measure how long a trainer waits for its loader, and say so once if that is much of an epoch.

    The first epoch of a run, in which the cache and the workers are cold, counts only in the record. With no workers
    the trainer itself loads, and waits all that time.

    Example:
        >>> times, engine = LoaderTimes(), Engine(lambda engine, batch: None)
        >>> times.attach(engine)
        >>> _ = engine.run([0, 1], max_epochs=2)
        >>> [epoch["epoch"] for epoch in times.describe()["epoch_times"]]
        [1, 2]
    """

    share: float = 0.2  #: of an epoch's time, validation left out, from which it is told

    def __post_init__(self) -> None:
        self._epochs: list[dict[str, float]] = []
        self._told = False

    def attach(self, engine: Engine) -> None:
        """Watch ``engine``, the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_STARTED, self.begin_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.begin_waiting)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self.end_waiting)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.end_epoch)

    def start(self) -> None:
        """Forget the epochs of an earlier run."""
        self._epochs, self._told = [], False

    def begin_epoch(self) -> None:
        """Begin to add up."""
        self._begun, self._waited = time.monotonic(), 0.0

    def begin_waiting(self) -> None:
        """Note when the trainer asks for a batch."""
        self._asked = time.monotonic()

    def end_waiting(self) -> None:
        """Add what it has waited."""
        self._waited += time.monotonic() - self._asked

    def end_epoch(self, trainer: Engine) -> None:
        """Keep the times of an epoch, before it is validated, and say if the loader took much of it."""
        state = trainer.state
        if state.iteration % (state.epoch_length or 1):
            return
        passed = time.monotonic() - self._begun
        entry = {"epoch": state.epoch, "seconds": round(passed, 3), "waiting": round(self._waited, 3)}
        self._epochs.append(entry)
        if len(self._epochs) > 1 and not self._told and self._waited > self.share * passed and idist.get_rank() == 0:
            self._told = True
            percent = round(100 * self._waited / passed)
            text = "the loader is the bottleneck: %d %% of epoch %d was waiting for data; %s"
            _LOGGER.warning(text, percent, state.epoch, advise(state.dataloader, getattr(state, "device", None)))

    def describe(self) -> dict[str, Any]:
        """Return the entry of the run's record: seconds of each epoch, and those that the trainer waited for data."""
        return {"epoch_times": list(self._epochs)}


def advise(loader: Any, device: Any) -> str:
    """Return what to type next so that a training waits less for its data.

    Args:
        loader: of the training.
        device: that the network is on.
    """
    parts = []
    dataset = getattr(loader, "dataset", None)
    kept, whole = getattr(dataset, "cache_num", None), getattr(dataset, "data", None)
    if isinstance(kept, int) and whole is not None and kept < len(whole):
        parts.append("keep all cases in memory with --cache_rate 1.0")
    on_gpu = getattr(device, "type", "cpu") != "cpu"
    useful = find_most_useful() if on_gpu or count_cores() >= _CORES else 0
    useful = useful if on_gpu else min(_WORKERS, useful)
    if useful > getattr(loader, "num_workers", 0):
        parts.append(f"load in more processes with --num_workers {useful}")
    return "; ".join(parts) or "no setting loads faster here: shorten train#random_transforms or use more cores"
