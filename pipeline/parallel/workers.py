"""How many processes load data, where that is not told: enough for a GPU, none for a CPU."""

import logging
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from monai.data import DataLoader

from pipeline.issues import InputError

_LOGGER = logging.getLogger(__name__)
#: More workers than these feed no GPU faster, and each takes memory
MOST = 8
# Shared memory for the batches that a worker holds ready: two, each of up to 128 MB.
_SHARED_BYTES = 256_000_000
_SHARED = Path("/dev/shm")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def fit_workers(number: int | Literal["auto"], device: torch.device | str) -> int:
    """Return the number of processes that load the data of a training on a device.

    On a CPU that is 0: the network uses all cores, and workers would take them away from it. For a GPU it is the number
    of cores that this process may use (affinity, quota of the container) divided among the processes that torchrun has
    started on this machine, without the core of the process itself, and at most `MOST`. It is less where the shared
    memory (``/dev/shm``) is small through which workers send batches. It is 0 where processes do not fork, because each
    worker would get a copy of the cached data in every epoch.

    Args:
        number: "auto", or the number that is wanted.
        device: that the network is on.

    Raises:
        InputError: the number is neither "auto" nor a whole number from 0.

    Example:
        >>> fit_workers("auto", "cpu"), fit_workers(4, "cpu")
        (0, 4)
    """
    if number != "auto":
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise InputError(f"--num_workers must be auto or a whole number from 0, got {number!r}")
        return number
    return find_most_useful() if torch.device(device).type == "cuda" else 0


def find_most_useful() -> int:
    """Return the number of workers that can help on this machine, whatever the device."""
    if not _forks():
        return 0
    here = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    wanted = min(MOST, max(1, count_cores() // here - 1))
    room = _count_rooms() // here
    if room < wanted:
        text = "%d workers load the data, not %d: %s is small; give more, for example docker run --shm-size 8g"
        _LOGGER.warning(text, room, wanted, _SHARED)
    return min(wanted, room)


def count_cores() -> int:
    """Return the number of cores that this process may use, at least 1.

    Example:
        >>> count_cores() >= 1
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no container with cgroup 2, or "max": no limit
        return cores


def _count_rooms() -> int:
    """Return for how many workers the shared memory suffices. Its size counts, so that a resumed run gets as many."""
    return shutil.disk_usage(_SHARED).total // _SHARED_BYTES if _SHARED.is_dir() else MOST


def _forks() -> bool:
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return method == "fork"


class FittedDataLoader(DataLoader):
    """MONAI's loader with a number of workers that fits the machine, and pinned memory for a GPU.

    Args:
        dataset: the cases.
        num_workers: see `fit_workers`.
        device: that the network is on.
        kwargs: those of `monai.data.DataLoader`.

    Raises:
        InputError: as `fit_workers`.

    Example:
        >>> loader = FittedDataLoader([1, 2, 3], device="cpu", batch_size=2)
        >>> loader.num_workers, loader.pin_memory
        (0, False)
    """

    def __init__(
        self,
        dataset: Any,
        num_workers: int | Literal["auto"] = "auto",
        device: torch.device | str = "cpu",
        **kwargs: Any,
    ) -> None:
        # Without it the copy to the GPU waits for the batch to be copied once more.
        kwargs.setdefault("pin_memory", torch.device(device).type == "cuda")
        super().__init__(dataset, num_workers=fit_workers(num_workers, device), **kwargs)
