"""Where somebody watches, a bar; elsewhere, a line a minute."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import ignite.distributed as idist
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

_LOGGER = logging.getLogger(__name__)
_BAR = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}{postfix}, {remaining} left"
#: So long there is silence between lines that are not important, in seconds
MINUTE = 60.0


def on_terminal() -> bool:
    """Return whether bars are drawn: stderr is a terminal.

    In a config: ``"progress": {"_target_": "pipeline.handlers.on_terminal"}`` of a ``CacheDataset``, whose bar would
    otherwise fill a log file with control characters.

    Example:
        >>> on_terminal() in (True, False)
        True
    """
    return sys.stderr.isatty()


def format_duration(seconds: float) -> str:
    """Return a time in one or two units.

    Args:
        seconds: the time.

    Example:
        >>> [format_duration(seconds) for seconds in (0.84, 14.4, 89.6, 600, 7500)]
        ['0.8 s', '14 s', '90 s', '10 min', '2 h 05 min']
    """
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class ProgressDisplay:
    """Draw a bar on a terminal; without one, log at most one line a minute. Of several processes the first one does.

    On a terminal the lines of all other loggers go above the bar while a run lasts.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._places = contextlib.ExitStack()
        self._last = self._begun = time.monotonic()

    def start(self) -> None:
        """Begin a run."""
        self.close()
        self._last = time.monotonic()
        if on_terminal() and idist.get_rank() == 0:
            self._places.enter_context(logging_redirect_tqdm())

    def begin(self, title: str, total: int | None, unit: str) -> None:
        """Begin a part of a run, which takes the place of the part before.

        Args:
            title: stands before the bar or the line.
            total: number of its steps.
            unit: what a step is, in the plural.
        """
        self.end()
        self._begun, self._title, self._total, self._unit = time.monotonic(), title, total, unit
        quiet = None if idist.get_rank() == 0 else True
        desc = f"{title} " if title else ""
        self._bar = tqdm(
            total=total, desc=desc, unit=unit, disable=quiet, leave=False, bar_format=_BAR if total else None
        )

    def plan(self, title: str, total: int | None) -> None:
        """Change title and number of steps of the part that has begun, such as an epoch that a time budget shortens."""
        if (title, total) == (self._title, self._total):
            return
        self._title, self._total = title, total
        if self._bar is not None and not self._bar.disable:
            self._bar.total = total
            self._bar.set_description_str(f"{title} " if title else "", refresh=False)

    def advance(self, done: int, describe: Callable[[], tuple[str, str]] | None = None) -> None:
        """Show that steps are done.

        Args:
            done: number of steps since `begin`.
            describe: called only if something is shown; returns what stands after the number, and after the time left.
        """
        if self._bar is None or idist.get_rank() != 0:
            return
        due = done != self._total and time.monotonic() - self._last >= MINUTE
        if self._bar.disable and not due:
            return
        text, note = describe() if describe is not None else ("", "")
        if not self._bar.disable:
            self._bar.set_postfix_str(", ".join(filter(None, [text, note])), refresh=False)
            self._bar.update(done - self._bar.n)
        else:
            self.write("  ".join(filter(None, [self._title, *self._describe(done, text), note])))

    def _describe(self, done: int, text: str) -> tuple[str, str, str]:
        if not self._total:
            return f"{done} {self._unit}", text, ""
        left = (time.monotonic() - self._begun) / done * (self._total - done)
        return f"{done} of {self._total} {self._unit}", text, f"{format_duration(left)} left"

    def write(self, line: str) -> None:
        """Log a line."""
        if idist.get_rank() == 0:
            self._last = time.monotonic()
            _LOGGER.info(line)

    def end(self) -> None:
        """End a part of the run: its bar vanishes."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def close(self) -> None:
        """End the run."""
        self.end()
        self._places.close()
