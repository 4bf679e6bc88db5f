"""Processes to kill: forked from a server that has imported torch and MONAI once, so that twenty of them are cheap."""

import multiprocessing
import os
import sys
import time
from pathlib import Path

import pytest

from tests.parallel.pair import PRELOAD

sys.path[:0] = [str(Path(__file__).parents[1] / "handlers"), str(Path(__file__).parent)]


def _run_logged(target, arguments, log):
    """Run `target` with stdout and stderr in a file, and end with its error as a command does."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    multiprocessing.set_start_method("fork", force=True)  # for a loader's workers: a server of their own is slow
    import torch

    from pipeline.handlers.run.one_line_errors import print_error

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    try:
        target(*arguments)
    except Exception as error:
        print_error(type(error), error, error.__traceback__)
        raise SystemExit(1) from None


class Child:
    """A running process and its output."""

    def __init__(self, process, log):
        self.process, self._log = process, log

    @property
    def output(self):
        return self._log.read_text() if self._log.exists() else ""

    @property
    def pid(self):
        return self.process.pid

    def wait_for(self, condition, seconds=60):
        """Wait until `condition()` holds; fail if it never does, or if the process ends before."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.is_alive(), f"ended early with {self.process.exitcode}:\n{self.output}"
            assert time.monotonic() < end, f"waited {seconds} s in vain:\n{self.output}"
            time.sleep(0.01)

    def join(self, seconds=60):
        """Wait for the end and return the exit code, negative for a signal."""
        self.process.join(seconds)
        assert not self.process.is_alive(), f"still running after {seconds} s:\n{self.output}"
        return self.process.exitcode

    def kill(self, number):
        os.kill(self.pid, number)


@pytest.fixture(scope="session")
def forkserver():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


@pytest.fixture
def start(forkserver, tmp_path):
    """Start `target(*arguments)` in a separate process, which is ended after the test."""
    children = []

    def launch(target, *arguments):
        log = tmp_path / f"child_{len(children)}.log"
        process = forkserver.Process(target=_run_logged, args=(target, arguments, str(log)))
        process.start()
        children.append(Child(process, log))
        return children[-1]

    yield launch
    for child in children:
        if child.process.is_alive():
            child.process.kill()
        child.process.join(10)
