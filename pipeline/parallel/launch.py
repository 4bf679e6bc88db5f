"""Start and end the exchange with the other processes of a run started by torchrun."""

import logging
import os
import sys
from datetime import timedelta
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist

from pipeline.issues import InputError
from pipeline.parallel.agreement import exit_together

_LOGGER = logging.getLogger(__name__)
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def find_device() -> torch.device:
    """Return this process's device: the GPU with its number on this machine, or the CPU if there is no GPU.

    Raises:
        InputError: torchrun started more processes on this machine than it has GPUs.

    Example:
        >>> find_device().type in ("cpu", "cuda")
        True
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise InputError(
            f"process {number} of this machine has no GPU, there are {count}: start torchrun with "
            f"--nproc_per_node {count}, or train on the CPU with --device cpu"
        )
    return torch.device("cuda", number)


def start(device: torch.device | str, timeout_minutes: float = 60) -> None:
    """Join the other processes; call it before building anything that exchanges data with them.

    The backend is NCCL on GPUs, else gloo. From now on all processes but the first log only errors and draw no progress
    bars. Without torchrun's environment variables this does nothing: one process trains alone.

    Args:
        device: of this process.
        timeout_minutes: how long a process waits for the others, for example while the first one checks the files.

    Raises:
        InputError: some of torchrun's environment variables are set and others are not.
    """
    if dist.is_initialized():
        return
    missing = [name for name in _VARIABLES if name not in os.environ]
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        _LOGGER.info("one process: several are started with torchrun --nproc_per_node N -m monai.bundle run ...")
        return
    if missing:
        raise InputError(f"not set: {', '.join(missing)}; start the processes with torchrun, which sets them")
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=timedelta(minutes=timeout_minutes))
    idist.sync(temporary=True)  # "temporary": ignite notices when the process group ends
    if not is_main():
        logging.disable(logging.WARNING)
        sys.stderr = _WithoutBars(sys.stderr)


def stop() -> None:
    """Leave the other processes; without any, do nothing."""
    if not dist.is_initialized():
        return
    if not is_main():
        logging.disable(logging.NOTSET)
    stream: Any = sys.stderr
    if isinstance(stream, _WithoutBars):
        sys.stderr = stream.stream
    dist.destroy_process_group()
    idist.sync()


def is_main() -> bool:
    """Return whether this is the first process, which writes the files; a single process is the first.

    Example:
        >>> is_main()
        True
    """
    return idist.get_rank() == 0


def divide_batch(batch_size: int) -> int:
    """Return the batch size per process, so that an experiment is the same on any number of GPUs.

    Args:
        batch_size: of all processes together.

    Raises:
        InputError: it cannot be divided by the number of processes.

    Example:
        >>> divide_batch(16)
        16
    """
    processes = idist.get_world_size()
    with exit_together():
        if batch_size % processes:
            near = processes * max(1, round(batch_size / processes))
            raise InputError(
                f"batch_size {batch_size} cannot be divided among {processes} processes: "
                f"choose a multiple, such as --batch_size {near}, or another --nproc_per_node"
            )
    return batch_size // processes


class _WithoutBars:
    """A stream that drops progress bars: tqdm begins them with a carriage return."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return len(text) if text.startswith("\r") else int(self.stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
