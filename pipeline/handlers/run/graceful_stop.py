"""Stop a training properly on SIGTERM or Ctrl-C."""

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
    """On SIGTERM or Ctrl-C, stop after the current iteration, with exit code 143 or 130.

    The checkpoint of the last complete epoch stays and ``--resume true`` repeats the interrupted epoch; a checkpoint in
    the middle of an epoch could not be resumed exactly. A signal during validation takes effect after the validation
    and the epoch's checkpoint. A second signal ends the process at once. The previous signal handlers are restored
    when the run ends.

    Several processes stop after the same iteration, whichever of them received the signal. torchrun forwards a signal
    to all processes and kills those that are still running after 30 seconds.

    Note:
        Only a process's main thread receives signals. In another thread this handler logs one warning and does nothing.
    """

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._former: dict[signal.Signals, Any] = {}
        self._pid = -1
        self._told = False

    def attach(self, engine: Engine) -> None:
        """Listen while ``engine``, the trainer, runs."""
        engine.add_event_handler(Events.STARTED, self.listen)
        # The first event after all handlers of an epoch, including its checkpoint, is the start of the next epoch.
        engine.add_event_handler(Events.EPOCH_STARTED, self.stop_if_signalled)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.stop_within_epoch)
        engine.add_event_handler(Events.COMPLETED, self.restore)
        on_exception(engine, self._replace_exception)

    def listen(self, engine: Engine) -> None:
        """Take over the signal handlers."""
        self._signal, self._pid = None, os.getpid()
        try:
            for number in _SIGNALS:
                self._former[number] = signal.signal(number, self._receive)
        except ValueError:
            if not self._told:
                _LOGGER.warning("not the main thread: SIGTERM and Ctrl-C end this run without finishing the iteration")
            self._told = True

    def stop_within_epoch(self, engine: Engine) -> None:
        """End the run if a signal was received, unless the epoch is complete: its checkpoint comes first."""
        length = engine.state.epoch_length
        if not length or engine.state.iteration % length:
            self.stop_if_signalled(engine)

    def stop_if_signalled(self, engine: Engine) -> None:
        """End the run if a signal was received."""
        received = self._find_signal()
        if received is None:
            return
        length = engine.state.epoch_length
        done = engine.state.iteration // length if length else 0
        advice = "continue with --resume true" if done else "nothing was saved yet, start again"
        if idist.get_rank() == 0:
            _LOGGER.warning("stopped by %s after %d complete epochs; %s", received.name, done, advice)
        raise SystemExit(128 + received)

    def _find_signal(self) -> signal.Signals | None:
        number = self._signal or 0
        if idist.get_world_size() > 1:
            number = int(idist.all_reduce(int(number), "MAX"))
        return signal.Signals(number) if number else None

    def restore(self, engine: Engine) -> None:
        """Restore the previous signal handlers."""
        for number, former in self._former.items():
            signal.signal(number, former)
        self._former.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a worker of the loader: Ctrl-C reaches it too, but the main process still needs it
        received = signal.Signals(number)
        if self._signal is not None:
            os._exit(128 + number)
        self._signal = received
        # Not with the logger, which the signal may have interrupted while it was writing a line.
        os.write(2, f"{received.name}: stopping after this iteration or validation; again to stop at once\n".encode())

    def _replace_exception(self, engine: Engine, error: BaseException) -> BaseException | None:
        self.restore(engine)
        if idist.get_world_size() > 1 and threading.current_thread() is threading.main_thread():
            # torchrun sends SIGTERM as soon as one process is gone; this one is already ending.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # A signal to the whole process group also ends the loader's workers, which is reported as an error.
        cause = error.__cause__ or error
        if self._signal is not None and isinstance(cause, RuntimeError) and "DataLoader worker" in str(cause):
            return SystemExit(128 + self._signal)
        return None
