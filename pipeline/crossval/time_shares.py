"""The time of each fold's training, of a time for all of them."""

from collections.abc import Iterable

_HOUR = 3600.0


def find_share(hours: float | None, used: Iterable[float], waiting: int) -> float | None:
    """Return the seconds of the next training: an equal share of what the finished ones have left.

    A training counts the time of its own earlier runs within its share, so all together keep to the time.

    Args:
        hours: for all trainings; None for no limit.
        used: seconds of each finished training.
        waiting: number of those that are not finished, at least 1.

    Example:
        >>> find_share(1.0, [600.0], 4)
        750.0
    """
    return None if hours is None else max(0.0, (hours * _HOUR - sum(used)) / waiting)
