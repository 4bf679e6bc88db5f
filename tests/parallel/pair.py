"""Two processes that are started once and then run the jobs of many tests, as torchrun would run them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# What all processes of tests need that are forked from the server, which starts once in a test run. torch imports
# _dynamo, slow, when it makes the first optimizer; `mischief` is a module of tests/fault.
PRELOAD = [
    *("fire", "pytest", "torch._dynamo", "torch.utils.tensorboard", "mischief"),
    "tests.component_table",
    *("monai.bundle", "monai.engines", "monai.handlers", "monai.losses", "monai.networks.nets", "monai.transforms"),
    *("pipeline.datasets", "pipeline.handlers", "pipeline.parallel", "pipeline.transforms"),
]
PROCESSES = 2


class Pair:
    """Runs a function of a module in both processes; each process group lives for one job.

    Args:
        log: file that gets what the processes print.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._number = 0
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(PROCESSES):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, theirs, str(log)), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def submit(self, job: Callable[..., Any], *arguments: Any) -> None:
        """Start ``job(*arguments)`` in both processes."""
        self._number += 1
        port = find_port()
        for pipe in self._pipes:
            pipe.send((self._number, job, arguments, port))

    def collect(self, seconds: float = 120) -> list[Any]:
        """Wait for the job and return what it returned in each process; fail if it raised in one."""
        answers = []
        for rank, pipe in enumerate(self._pipes):
            number, result, error = 0, None, None
            while number < self._number:  # a test that failed may have left an answer behind
                assert pipe.poll(seconds), f"process {rank} does not answer:\n{self.log.read_text()[-3000:]}"
                number, result, error = pipe.recv()
            answers.append((result, error))
        errors = [error for _, error in answers if error]
        assert not errors, "\n".join([*errors, self.log.read_text()[-3000:]])
        return [result for result, _ in answers]

    def run(self, job: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Run ``job(*arguments)`` in both processes and return what each returned."""
        self.submit(job, *arguments)
        return self.collect()

    def end(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()


def find_port() -> int:
    """Find a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def set_variables(rank: int, port: int) -> None:
    """Set what torchrun sets."""
    values = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": PROCESSES,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in values.items()})


def log_to(path: str) -> None:
    """Send stdout and stderr to a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    # pytest may have replaced the streams before the first process was forked
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))


def _serve(rank: int, pipe: Connection, log: str) -> None:
    import torch

    from pipeline import parallel
    from pipeline.parallel import wrapped
    from tests.parallel import gloo_batch_norm

    wrapped.synchronise_batch_norm = gloo_batch_norm.synchronise  # torch's needs GPUs
    log_to(log)
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError):
        while True:
            number, job, arguments, port = pipe.recv()
            set_variables(rank, port)
            try:
                answer = number, job(*arguments), None
            except BaseException:
                answer = number, None, f"process {rank}: {traceback.format_exc()}"
            finally:
                parallel.stop()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a run that failed ends, and waits for no signal
            pipe.send(answer)
