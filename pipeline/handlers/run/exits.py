"""What happens when a run ends by an exception.

ignite calls the handlers of ``EXCEPTION_RAISED`` in turn, but the first one that raises hides the others, and one that
does not raise swallows the exception. MONAI's ``StatsHandler`` logs a trace and raises. So all our clean-ups
are one handler, in front of the others, that raises when they are all done.

Of several processes the one that fails first says why; that the others then miss it is one line more, without a trace.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable

from ignite.engine import Engine, Events

from pipeline.issues import InputError
from pipeline.parallel.agreement import explain_lost_process, record_failure

#: Called with the engine and the exception; returns another exception to raise in its place, or None.
OnException = Callable[[Engine, BaseException], BaseException | None]


def on_exception(engine: Engine, callback: OnException) -> None:
    """Call ``callback`` when ``engine`` fails, before any handler that raises; the exception is raised again.

    Args:
        engine: a trainer or an evaluator.
        callback: gets the engine and the exception; it may return an exception to raise instead.

    Example:
        >>> def fail(engine, batch):
        ...     raise OSError("a broken slice")
        >>> engine = Engine(fail)
        >>> on_exception(engine, lambda engine, error: print("clean up after:", error))
        >>> engine.logger.disabled = True
        >>> try:
        ...     engine.run([1])
        ... except OSError as error:
        ...     print("still raised:", error)
        clean up after: a broken slice
        still raised: a broken slice
    """
    _find_exits(engine).callbacks.append(callback)


def keep_one_line(engine: Engine) -> None:
    """Keep ignite and MONAI from logging an error that is told in one line at the end, by Python."""
    _find_exits(engine)


class _Exits:
    def __init__(self) -> None:
        self.callbacks: list[OnException] = []
        self._raised: BaseException | None = None

    def __call__(self, engine: Engine, error: BaseException) -> None:
        if error is not self._raised:  # ignite reports an iteration's exception a second time, for the run
            error = explain_lost_process(error) or _find_own_message(error) or error
            for callback in self.callbacks:
                error = callback(engine, error) or error
            record_failure(error)
            self._raised = error
        raise error


def _find_own_message(error: BaseException) -> InputError | None:
    """Find the line that this package raised, however deep MONAI has wrapped it.

    A network that refuses an image's size, or a transform a mask's values, says in a `ValueError` what a user needs.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValueError) and _is_raised_here(cause):
            return InputError(str(cause))
        cause = cause.__cause__  # not the context: what was handled on the way is not what went wrong
    return None


def _is_raised_here(error: BaseException) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__", "")).startswith("pipeline.")


def _find_exits(engine: Engine) -> _Exits:
    if not any(isinstance(item, _HideSystemExit) for item in engine.logger.filters):
        engine.logger.addFilter(_HideSystemExit())
    handlers = engine._event_handlers[Events.EXCEPTION_RAISED]
    for handler, _, _ in handlers:
        if isinstance(handler, _Exits):
            return handler
    exits = _Exits()
    engine.add_event_handler(Events.EXCEPTION_RAISED, exits)
    handlers.insert(0, handlers.pop())  # ignite has no priorities
    return exits


class _HideSystemExit(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = sys.exc_info()[1]
        if record.levelno < logging.ERROR or error is None:
            return True
        return not isinstance(error, SystemExit) and explain_lost_process(error) is None
