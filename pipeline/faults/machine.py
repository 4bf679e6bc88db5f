"""Errors of a machine that is too small: memory, shared memory, workers, open files."""

import re
from collections.abc import Iterator, Sequence

from pipeline.atomic import format_bytes
from pipeline.faults.causes import Cause
from pipeline.faults.fault import SAVING, Fault

try:
    import resource  # here, because an import needs an open file
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_NETWORK = ("batch_size", "sw_batch_size", "roi_size", "image_size", "slices_per_patient", "tiles_per_frame")
_LOADING = ("num_workers", "batch_size", "cache_rate")
_GPU = r"(CUDA|HIP|XPU|MPS backend) out of memory|CUDA error: out of memory|CU\w+_STATUS_ALLOC_FAILED"
_RAM = (
    r"an't allocate memory|annot allocate memory|Unable to allocate .* for an array|std::bad_alloc|"
    r"ailed to allocate memory|not enough memory"
)
_AMOUNT = r"(?:ried to allocate|Unable to allocate) ([\d.]+) (\w+)"
_SHARED_MEMORY = r"torch_\d+_\d+|/dev/shm|out of shared memory|Bus error"
_WORKER = r"DataLoader worker \(pids?(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([\w ]+)|exited unexpectedly)"


def find_gpu_memory(causes: Sequence[Cause]) -> Iterator[Fault]:
    """Recognise that the memory of the GPU is full."""
    for kind, text in causes:
        if kind == "OutOfMemoryError" or re.search(_GPU, text):
            yield Fault(f"memory of the GPU is full{_read_amount(text)}", lower=_NETWORK)


def find_memory(causes: Sequence[Cause]) -> Iterator[Fault]:
    """Recognise that the computer's memory is full."""
    for kind, text in causes:
        if kind in ("MemoryError", "_ArrayMemoryError") or re.search(_RAM, text):
            yield Fault(f"memory (RAM) is full{_read_amount(text)}", lower=tuple(SAVING))


def find_shared_memory(causes: Sequence[Cause]) -> Iterator[Fault]:
    """Recognise that the memory through which workers send cases is full."""
    for _, text in causes:
        if re.search(_SHARED_MEMORY, text) and re.search(r"unable to|DataLoader worker", text):
            yield Fault(
                "shared memory of the loader's workers is full (/dev/shm)",
                "load without workers, --num_workers 0, or give more shared memory (docker run --shm-size 8g)",
                loading=True,
            )


def find_lost_worker(causes: Sequence[Cause]) -> Iterator[Fault]:
    """Recognise that a worker of the loader was killed, crashed, or ended by itself."""
    for _, text in causes:
        match = re.search(_WORKER, text)
        if match and (match[2] or "").strip() == "Killed":
            what = f"worker {match[1]} of the loader was killed (SIGKILL), as the system does when memory (RAM) is full"
            yield Fault(what, lower=_LOADING, loading=True, traced=False)
        elif match:
            how = f"crashed ({match[2].strip()})" if match[2] else "ended without saying why"
            yield Fault(
                f"worker {match[1]} of the loader {how}",
                "load without workers, --num_workers 0",
                loading=True,
                traced=False,
            )


def find_cut_connection(causes: Sequence[Cause]) -> Iterator[Fault]:
    """Recognise that a worker was lost while it sent a case; only where workers send them."""
    if causes[0].kind in ("ConnectionResetError", "ConnectionRefusedError", "BrokenPipeError", "EOFError"):
        what = "a worker of the loader ended while it sent its cases, as if it was killed for lack of memory (RAM)"
        yield Fault(what, lower=_LOADING, loading=True, traced=False)


def find_limits(causes: Sequence[Cause]) -> Iterator[Fault]:
    """Recognise that the system allows no more files, processes or threads."""
    for _, text in causes:
        if re.search(r"Too many open files|received 0 items of ancdata", text):
            yield Fault(
                f"too many open files{_read_limit()}", "allow more in the shell with `ulimit -n 8192`", ("num_workers",)
            )
        elif re.search(r"can't start new thread|\[Errno 11\]", text):
            yield Fault("the system allows no more processes or threads", lower=("num_workers",))


def _read_amount(text: str) -> str:
    match = re.search(_AMOUNT, text)
    if not match:
        return ""
    return f", {format_bytes(int(match[1])) if match[2] == 'bytes' else ' '.join(match.groups())} more were needed"


def _read_limit() -> str:
    return f", {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} are allowed" if resource else ""
