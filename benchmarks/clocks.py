"""Time that other work on the machine does not change, and contestants that take turns."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def read_clock() -> float:
    """Return seconds of the processor; on a GPU those of the clock after all its work is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


@dataclass(frozen=True)
class Turns:
    """Seconds of each contestant, a number a round."""

    #: By the name of the contestant.
    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Return the median of a contestant in seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, peer: str, ours: str) -> tuple[float, tuple[float, float]]:
        """Return the median of peer / ours over the rounds, the lowest and the highest.

        Two values of the same round are compared, so that a load that comes and goes affects both.
        """
        pairs = zip(self.seconds[peer], self.seconds[ours], strict=True)
        ratios = [theirs / mine for theirs, mine in pairs]
        return statistics.median(ratios), (min(ratios), max(ratios))


def take_turns(contestants: Mapping[str, Callable[[], Any]], rounds: int, calls: int = 1) -> Turns:
    """Time functions in turns, every second round backwards; a first round warms up and does not count.

    Args:
        contestants: functions without arguments, by name.
        rounds: how often each is timed.
        calls: calls that are timed together, for functions that are over in microseconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        order = list(contestants.items())
        for name, call in order if turn % 2 else order[::-1]:
            start = read_clock()
            for _ in range(calls):
                call()
            if turn:
                seconds[name].append((read_clock() - start) / calls)
    return Turns(seconds)
