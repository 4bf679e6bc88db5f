"""Print the errors of a command in one line, also those that come before an engine starts."""

import re
import sys
import threading
from types import TracebackType
from typing import Any

from tqdm import tqdm

from pipeline.faults import describe_first, find_fault
from pipeline.handlers.run.exits import find_line
from pipeline.issues import InputError
from pipeline.parallel.agreement import record_failure

_WRAPPED = re.compile("Failed to (evaluate|instantiate) ")


class OneLineErrors:
    """Print errors whose reason is the machine, a file or a setting in one line, when a config runs as a command.

    MONAI wraps an error that is raised while a config is built once for each part of the config, and Python prints all
    of that; the line that says what happened is somewhere in the middle. Errors of an unknown kind keep the trace of
    their first cause, because they may be bugs, but the last line says what happened.

    It belongs in ``initialize``, because nothing is built before. It changes nothing unless the process was started
    with ``python -m monai.bundle``: clients and notebooks get the exceptions.

    Example:
        >>> _ = OneLineErrors()
        >>> sys.excepthook is sys.__excepthook__
        True
    """

    def __init__(self) -> None:
        main = getattr(sys.modules.get("__main__"), "__spec__", None)
        if main is not None and main.name.startswith("monai.bundle"):
            sys.excepthook = print_error
            threading.excepthook = print_thread_error


def print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that ends the process; to be used as ``sys.excepthook``."""
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return
    line = find_line(error)
    if line is None:
        first = _unwrap(error)
        sys.__excepthook__(type(first), first, first.__traceback__)
        line = InputError(f"{describe_first(error)}; the trace above shows where")
    record_failure(line)
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()  # otherwise the line would follow a bar in its row
    print(line, file=sys.stderr, flush=True)


def _unwrap(error: BaseException) -> BaseException:
    """Return the error that MONAI has wrapped while it evaluated a config, whose own trace shows only MONAI."""
    while isinstance(error, RuntimeError) and _WRAPPED.match(str(error)) and error.__cause__ is not None:
        error = error.__cause__
    return error


def print_thread_error(arguments: Any) -> None:
    """Print an error that ends a thread, unless its kind is known; to be used as ``threading.excepthook``.

    TensorBoard's thread, whose file may vanish, raises the error again where the next value is written.
    """
    if arguments.exc_value is None or find_fault(arguments.exc_value) is None:
        threading.__excepthook__(arguments)
