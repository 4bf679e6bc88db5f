"""How the kernels of this package are compiled: ahead of their first use by numba, once for a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["BLOCK", "compiled"]

BLOCK = 512  # points that a kernel handles together: their scratch stays in the fastest cache

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a kernel at its first call and keep the machine code on disk, beside the source or in the user's cache.

    Kernels release the interpreter's lock, so threads of ours run them side by side. Numba's own parallel loops are not
    used: their OpenMP layer kills a process that was forked (a loader's worker), and their other layer one that
    calls from two threads.
    """
    try:
        return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:
        # Numba finds no folder that it may write (a read-only installation without a home): compile in every process.
        return cast(F, numba.njit(nogil=True, error_model="numpy")(function))
