"""Clean up after a run that ends with an exception, and report it in one line.

ignite calls the handlers of ``EXCEPTION_RAISED`` one after the other, but the first one that raises hides the rest, and
if none raises, the exception is lost. MONAI's ``StatsHandler`` logs a traceback and raises. Therefore all our clean-ups
are callbacks of one handler, which comes first and raises after the last callback.

With several processes, the first one that fails states the reason. Each of the others adds one line and no traceback.
"""

import logging
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ignite.engine import Engine, Events

from pipeline.faults import list_causes
from pipeline.handlers.run.fault_context import explain_fault
from pipeline.handlers.run.loading_order import record_order
from pipeline.issues import InputError, find_input_error
from pipeline.parallel.agreement import explain_lost_process, record_failure

_PACKAGE = Path(__file__).parents[2]
# The last frame of a trace, and the message after it.
_WORKER_ERROR = r'  File "([^"]+)", line \d+, in .+\n(?: {4}.*\n)*ValueError: (.+)'
#: Gets the engine and the exception; returns an exception to raise instead, or None
OnException = Callable[[Engine, BaseException], BaseException | None]


def on_exception(engine: Engine, callback: OnException) -> None:
    """Call ``callback`` when ``engine`` fails, before handlers that raise; then the exception is raised again.

    Args:
        engine: a trainer or an evaluator.
        callback: gets the engine and the exception; may return an exception to raise instead.

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
    """Keep ignite and MONAI from logging a traceback of errors that Python reports in one line at the end."""
    _find_exits(engine)


class OneLineHandler:
    """Base of handlers that act at one event of their engine and whose errors are one line."""

    event: ClassVar[Events] = Events.STARTED

    def attach(self, engine: Engine) -> None:
        """Act on ``engine`` at every ``event``."""
        engine.add_event_handler(self.event, self)
        keep_one_line(engine)

    def __call__(self, engine: Engine) -> Any:
        """Act on the engine."""
        raise NotImplementedError


class _Exits:
    def __init__(self) -> None:
        self.callbacks: list[OnException] = []
        self._raised: BaseException | None = None

    def __call__(self, engine: Engine, error: BaseException) -> None:
        # ignite would take the generator that ends here for an interrupted run, and the next run would do nothing.
        engine._internal_run_generator = None
        if error is not self._raised:  # ignite reports an iteration's exception again for the run
            error = find_line(error, engine) or error
            for callback in self.callbacks:
                error = callback(engine, error) or error
            record_failure(error)
            self._raised = error
        raise error


def find_line(error: BaseException, engine: Engine | None = None) -> InputError | None:
    """Return the line to show instead of an error; None if its reason is unknown and its trace is needed.

    Args:
        error: the exception.
        engine: the engine that it ended, if it had started.
    """
    for _ in range(2):
        try:
            return explain_lost_process(error) or _find_own_message(error) or explain_fault(error, engine)
        except RuntimeError as other:  # torch says at any moment, in its signal handler, that a worker is lost
            error = other
        except Exception:  # without memory or files even this may fail, and the error itself matters more
            break
    return None


def _find_own_message(error: BaseException) -> InputError | None:
    """Return the message of an error raised by this package, however deeply MONAI has wrapped it.

    Networks and transforms use `ValueError` to say what is wrong with an image or a mask.
    """
    found = find_input_error(error)
    cause: BaseException | None = error
    while found is None and cause is not None:
        if isinstance(cause, ValueError) and _is_raised_here(cause):
            return InputError(str(cause))
        cause = cause.__cause__  # not the context, which may be an error that was handled
    return found or _find_worker_message(error)


def _find_worker_message(error: BaseException) -> InputError | None:
    """Return such a message of a loader's worker, of whose errors only a text arrives."""
    for kind, text in list_causes(error):
        if kind == InputError.__name__:
            return InputError(text)
    match = re.search(_WORKER_ERROR, str(error)) if "Caught " in str(error) else None
    return InputError(match[2]) if match and Path(match[1]).is_relative_to(_PACKAGE) else None


def _is_raised_here(error: BaseException) -> bool:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get("__name__", "")).startswith("pipeline.")


def _find_exits(engine: Engine) -> _Exits:
    if not any(isinstance(item, _HideException) for item in engine.logger.filters):
        engine.logger.addFilter(_HideException())
    handlers = engine._event_handlers[Events.EXCEPTION_RAISED]
    for handler, _, _ in handlers:
        if isinstance(handler, _Exits):
            return handler
    exits = _Exits()
    engine.add_event_handler(Events.STARTED, record_order)
    engine.add_event_handler(Events.EXCEPTION_RAISED, exits)
    handlers.insert(0, handlers.pop())  # to the front: ignite has no priorities
    return exits


class _HideException(logging.Filter):
    """Keep ignite from logging, once for the iteration and once for the run, an error that is raised anyway."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR or sys.exc_info()[1] is None
