"""Recognise what ended a run, by the errors of torch, numpy, Python and the readers."""

import traceback
from collections.abc import Mapping
from typing import Any

from pipeline.faults.causes import list_causes
from pipeline.faults.fault import Fault, advise
from pipeline.faults.machine import (
    find_cut_connection,
    find_gpu_memory,
    find_limits,
    find_lost_worker,
    find_memory,
    find_shared_memory,
)
from pipeline.faults.sizes import find_empty_list, find_sizes
from pipeline.faults.unreadable import find_refused, find_unreadable

# Modules in which sizes meet.
_SIZED = (
    "torch.nn.",
    "torch.utils.data.",
    "monai.networks.",
    "monai.losses.",
    "pipeline.networks.",
    "pipeline.losses.",
)
_KINDS = (
    find_gpu_memory,
    find_shared_memory,
    find_memory,
    find_limits,
    find_lost_worker,
    find_unreadable,
    find_refused,
    find_empty_list,
)


def explain(error: BaseException, values: Mapping[str, Any] | None = None) -> str | None:
    """Return one line for an error whose reason is the machine, a file or a setting.

    Args:
        error: the exception, with its causes.
        values: the knobs in use, with their values; None if they are unknown.

    Returns:
        None if the error is not known; then it may be a bug, and its trace is needed.

    Example:
        >>> explain(MemoryError(), {"batch_size": 8, "num_workers": 0})
        'memory (RAM) is full; lower --batch_size (now 8)'
        >>> explain(KeyError("image"))
    """
    fault = find_fault(error)
    return None if fault is None else "; ".join(filter(None, (fault.what, advise(fault, values))))


def find_fault(error: BaseException) -> Fault | None:
    """Return what the error means, if it is known."""
    causes = list_causes(error)
    known = next((fault for find in (*_find_place(error), *_KINDS) for fault in find(causes)), None)
    if known is None and _is_of_compiler(error):
        return Fault("torch.compile makes no code that works for this network here", "train with --compile false")
    return known


def _find_place(error: BaseException) -> list[Any]:
    """Return what else an error may mean where it was raised: in a network or a loss, or where workers send cases."""
    frames = _list_modules(error)
    finders: list[Any] = [find_sizes] if any(frame.startswith(_SIZED) for frame in frames) else []
    return [find_cut_connection, *finders] if "torch.multiprocessing.reductions" in frames else finders


def _list_modules(error: BaseException) -> list[str]:
    """Return the modules through which an error came."""
    return [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]


def _is_of_compiler(error: BaseException) -> bool:
    """Tell whether torch.compile, or the code that it made, failed.

    Frames of ``torch._dynamo`` say nothing: every optimiser passes through some, compiled or not.
    """
    is_compiled = any(name.startswith("torch._inductor.") for name in _list_modules(error))
    return is_compiled or type(error).__module__ == "torch._dynamo.exc"
