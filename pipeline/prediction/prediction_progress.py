"""Say how far a prediction is: a bar on a terminal, a line a minute elsewhere."""

import sys
import time
from dataclasses import dataclass
from typing import Any, TextIO

from ignite.engine import Engine, Events
from tqdm import tqdm

_INTERVAL = 60.0


@dataclass(eq=False)
class PredictionProgress:
    """Show the number of cases, the time of a case and the time that is left, on stderr."""

    total: int  #: number of cases
    interval: float = _INTERVAL  #: seconds between two lines where there is no terminal
    stream: TextIO | None = None  #: None for stderr

    def __post_init__(self) -> None:
        self.stream = self.stream or sys.stderr
        self._bar: Any = None
        self._done = 0
        self._began = self._told = time.perf_counter()

    def attach(self, engine: Engine) -> None:
        """Follow a run of an evaluator, or of several one after the other."""
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)

    def begin(self) -> None:
        """Show that it begins."""
        if self._bar is None:
            self._began = self._told = time.perf_counter()
            # disable=None: only on a terminal.
            self._bar = tqdm(total=self.total, unit="case", file=self.stream, disable=None, leave=False, smoothing=0.1)

    def advance(self, engine: Engine) -> None:
        """Count the cases of a batch."""
        output: Any = engine.state.output
        self.step(len(output) if isinstance(output, list | tuple) else 1)

    def step(self, number: int = 1) -> None:
        """Count cases."""
        self._done += number
        if self._bar is not None:
            self._bar.update(number)
        now = time.perf_counter()
        if (self._bar is None or self._bar.disable) and now - self._told >= self.interval:
            self._told = now
            print(self.describe(now - self._began), file=self.stream, flush=True)

    def describe(self, seconds: float) -> str:
        """Return the line.

        Args:
            seconds: since the beginning.

        Example:
            >>> progress = PredictionProgress(40)
            >>> progress.step(10)
            >>> progress.describe(50.0)
            '10 of 40 cases, 5.0 s per case, 2:30 left'
        """
        each = seconds / max(1, self._done)
        left = round(each * (self.total - self._done))
        return f"{self._done} of {self.total} cases, {each:.1f} s per case, {left // 60}:{left % 60:02d} left"

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
