"""What the name of a metric says: its unit, whether small is good, whether it counts or pools."""

import re
from collections.abc import Iterable

#: Names of metrics without an upper limit (``hd95_posterior``); smaller is better
_UNLIMITED = re.compile(r"(?:^|_)(?:hd\d*|assd|asd|distance|loss|error)(?:_|$)")
#: Names of metrics from 0, which is best, to 1 (``ece_band``)
_ERROR = re.compile(r"(?:^|_)(?:brier|ece|doubt)(?:_|$)")
_UNITS = ("patient", "subject", "volume", "scan", "image", "slice", "frame", "case")
_POOLED = "_pooled"
_COUNT = "n_"


def is_small_good(metric: str) -> bool:
    """Return whether smaller values are better, as of distances, losses and errors of calibration.

    Example:
        >>> is_small_good("hd95_left"), is_small_good("ece_band"), is_small_good("dice_shade")
        (True, True, False)
    """
    return bool(_UNLIMITED.search(metric) or _ERROR.search(metric))


def find_limits(metric: str) -> tuple[float, float] | None:
    """Return the least and the greatest possible value of a metric; None of a distance or a loss.

    Example:
        >>> find_limits("dice_patient"), find_limits("hd95_left")
        ((0.0, 1.0), None)
    """
    return None if _UNLIMITED.search(metric) else (0.0, 1.0)


def is_count(metric: str) -> bool:
    """Return whether a metric counts cases or objects."""
    return metric.startswith(_COUNT)


def is_pooled(metric: str) -> bool:
    """Return whether a metric is one value for all pixels or a count, never a mean over cases."""
    return metric.endswith(_POOLED) or is_count(metric)


def find_unit(metric: str, others: Iterable[str] = ()) -> str:
    """Return what one row of a metric's table is: the unit in its name, or in another metric's of the run, or "case".

    Args:
        metric: its name.
        others: the names of the run's other metrics, the key metric first.

    Example:
        >>> find_unit("dice_patient"), find_unit("hd95_left", ["dice_volume"]), find_unit("seg")
        ('patient', 'volume', 'case')
    """
    for name in (metric, *others):
        for word in name.split("_"):
            if word in _UNITS:
                return word
    return "case"
