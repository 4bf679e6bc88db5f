"""What ended a run, and what to do about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Knobs that save memory, and the value below which they cannot go; None for sizes
SAVING = {
    "batch_size": 1,
    "sw_batch_size": 1,
    "roi_size": None,
    "image_size": None,
    "slices_per_patient": 1,
    "tiles_per_frame": 1,
    "cache_rate": 0,
    "num_workers": 0,
}


@dataclass(frozen=True)
class Fault:
    """What ended a run."""

    what: str  #: one line
    advice: str = ""  #: what to do
    lower: tuple[str, ...] = ()  #: knobs whose lower values avoid it
    path: str = ""  #: the file or folder that it is about
    reading: bool = False  #: a file of a case cannot be read
    loading: bool = False  #: it came while cases were loaded, whatever the main process was doing
    traced: bool = True  #: the trace of the error says more


def advise(fault: Fault, values: Mapping[str, Any] | None = None) -> str:
    """Return what to do about a fault: the knobs to lower that are in use and can be lowered, and the other advice.

    Example:
        >>> advise(Fault("full", lower=("batch_size", "cache_rate")), {"batch_size": 1, "cache_rate": 0.5})
        'lower --cache_rate (now 0.5)'
        >>> advise(Fault("full", lower=("batch_size", "cache_rate")))
        'lower batch_size or cache_rate'
    """
    if values is None:
        knobs = list(fault.lower)
    else:
        knobs = [f"--{name} (now {values[name]})" for name in fault.lower if _can_be_lower(name, values.get(name))]
    parts = [f"lower {_join_or(knobs)}" if knobs else "", fault.advice]
    if fault.lower and not knobs:
        parts.append("no setting saves more: use a machine with more memory, or end other programs")
    return ", or ".join(filter(None, parts))


def _can_be_lower(name: str, value: Any) -> bool:
    least = SAVING[name]
    if value is None or least is None:
        return value is not None
    return isinstance(value, (int, float)) and value > least


def _join_or(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"
