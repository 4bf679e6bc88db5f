"""A progress bar on stderr."""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def show_progress(results: Iterable[T], total: int) -> Iterable[T]:
    """Wrap a stream of results into a progress bar on stderr, if that is a terminal."""
    from tqdm import tqdm

    # disable=None: no bar where stderr is not a terminal.
    bar: Iterable[T] = tqdm(results, total=total, unit="case", disable=None, leave=False)
    return bar
