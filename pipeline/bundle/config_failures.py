"""Run parts of a config in silence, and say in one line why one of them failed."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.issues import InputError, find_input_error


@contextmanager
def be_quiet() -> Iterator[None]:
    """Hide what MONAI says about a config, which is not news to its user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextmanager
def explain_failure(what: str, todo: str) -> Iterator[None]:
    """Be quiet, and turn the long traceback of a config into one line with the cause.

    Args:
        what: what cannot be done, before the cause.
        todo: what the user types next, or what became of the rest.

    Raises:
        InputError: whatever a part of a config raised.
    """
    try:
        with be_quiet():
            yield
    except Exception as error:
        cause: BaseException = find_input_error(error) or error
        while cause.__cause__ is not None and not isinstance(cause, InputError):
            cause = cause.__cause__
        raise InputError(f"{what}: {cause}; {todo}") from error
