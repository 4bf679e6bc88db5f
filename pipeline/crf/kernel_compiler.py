"""Compile the kernels of this package with numba, once per machine."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

BLOCK = 512  # points per step of a kernel, so that their scratch stays in the fastest cache

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a kernel at its first call and keep the machine code on disk, next to the source or in the user's cache.

    Kernels release the interpreter's lock, so they run in parallel in Python threads. Numba's parallel loops are not
    used, because their OpenMP layer kills a forked process (a data loader's worker), and the other layer kills one that
    calls kernels from two threads.

    Note:
        Numba recompiles a kernel when its file changes, but not when another file with a kernel that it calls does:
        delete the ``__pycache__`` of this package after changing `exponentials` or `vertices`.
    """
    try:
        return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:
        # No writable folder (a read-only installation without a home): compile in every process.
        return cast(F, numba.njit(nogil=True, error_model="numpy")(function))
