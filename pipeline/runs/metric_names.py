"""What the name of a metric says: its unit, whether small is good, whether it counts or pools."""

import re
from collections.abc import Iterable

#: Names of metrics for which smaller is better (``hd95_posterior``)
_SMALL_IS_GOOD = re.compile(r"(?:^|_)(?:hd\d*|assd|asd|distance|loss|error)(?:_|$)")
_UNITS = ("patient", "subject", "volume", "scan", "image", "slice", "frame", "case")
_POOLED = "_pooled"
_COUNT = "n_"


def is_small_good(metric: str) -> bool:
    """Return whether smaller values are better, as of distances and losses, which have no upper limit either.

    Example:
        >>> is_small_good("hd95_left"), is_small_good("dice_shade")
        (True, False)
    """
    return bool(_SMALL_IS_GOOD.search(metric))


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
