"""Turn SIGTERM into an orderly exit."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

EXIT_TERMINATED = 143


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Exit with 143 on SIGTERM, so that half-written files are removed."""

    def leave(*_: object) -> NoReturn:
        print("terminated", file=sys.stderr)
        raise SystemExit(EXIT_TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not in the main thread: the caller handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
