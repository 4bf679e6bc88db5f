"""End a training in order when it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from pipeline.handlers.run.exits import on_exception

_LOGGER = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class GracefulStop:
    """On SIGTERM or Ctrl-C stop after the current iteration, with exit code 143 or 130.

    No checkpoint is written at that moment, because a run resumed in the middle of an epoch would not repeat an
    uninterrupted one: the last complete epoch's stays, and ``--resume true`` repeats the epoch that was broken off. If
    the signal comes during validation, that and the epoch's checkpoint are finished first. A second signal ends the
    process at once. The former signal handlers come back when the run ends.

    Of several processes all stop after the same iteration, whichever of them got the signal. torchrun passes a signal
    on to all and kills those that are still there after 30 seconds.

    Note:
        Signals reach a process's main thread only; in another thread this handler does nothing and says so.
    """

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._former: dict[signal.Signals, Any] = {}
        self._pid = -1

    def attach(self, engine: Engine) -> None:
        """Listen while ``engine``, the trainer, runs."""
        engine.add_event_handler(Events.STARTED, self.listen)
        # After an epoch's last handler, its checkpoint included, the next event is the next epoch's start.
        engine.add_event_handler(Events.EPOCH_STARTED, self.stop_if_told)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.stop_if_told)
        engine.add_event_handler(Events.COMPLETED, self.restore)
        on_exception(engine, self._replace_exception)

    def listen(self, engine: Engine) -> None:
        """Take over the signal handlers."""
        self._signal, self._pid = None, os.getpid()
        try:
            for number in _SIGNALS:
                self._former[number] = signal.signal(number, self._receive)
        except ValueError:
            _LOGGER.warning("not the main thread: SIGTERM and Ctrl-C end this run without finishing the iteration")

    def stop_if_told(self, engine: Engine) -> None:
        """Leave the run if a signal has come."""
        told = self._find_signal()
        if told is None:
            return
        length = engine.state.epoch_length
        done = engine.state.iteration // length if length else 0
        advice = "continue with --resume true" if done else "nothing was saved yet, start again"
        if idist.get_rank() == 0:
            _LOGGER.warning("stopped by %s after %d complete epochs; %s", told.name, done, advice)
        raise SystemExit(128 + told)

    def _find_signal(self) -> signal.Signals | None:
        number = self._signal or 0
        if idist.get_world_size() > 1:
            number = int(idist.all_reduce(int(number), "MAX"))
        return signal.Signals(number) if number else None

    def restore(self, engine: Engine) -> None:
        """Give the signal handlers back."""
        for number, former in self._former.items():
            signal.signal(number, former)
        self._former.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a loader's worker: Ctrl-C reaches it too, and the main process still needs it
        received = signal.Signals(number)
        if self._signal is not None:
            os._exit(128 + number)
        self._signal = received
        # Not the logger: the signal may have come in the middle of a line that it was writing.
        os.write(2, f"{received.name}: stopping after this iteration or validation; again to stop at once\n".encode())

    def _replace_exception(self, engine: Engine, error: BaseException) -> BaseException | None:
        self.restore(engine)
        if idist.get_world_size() > 1 and threading.current_thread() is threading.main_thread():
            # This process ends in order. When the first one is gone, torchrun tells the others to end.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # A signal to the whole process group ends the loader's workers, and their loss is reported as an error.
        if self._signal is not None and isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            return SystemExit(128 + self._signal)
        return None
