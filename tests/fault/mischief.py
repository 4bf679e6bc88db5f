"""What tests do to a training while it runs, named in a config as handlers; and the command itself, in this process."""

import multiprocessing
import os
import resource
import runpy
import shutil
import signal
import sys
from pathlib import Path

import torch
from ignite.engine import Events

from pipeline.datasets import load_datalist


class Mischief:
    """Do harm when one iteration starts."""

    def __init__(self, deed, iteration=2, path="", amount=0):
        self.deed, self.iteration, self.path, self.amount = deed, iteration, path, amount

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine):
        if engine.state.iteration == self.iteration:
            DEEDS[self.deed](Path(self.path), self.amount)


def remove_all(folder, amount):
    for path in folder.iterdir():
        path.unlink()


def garble_all(folder, amount):
    for path in folder.iterdir():
        path.write_bytes(b"garbage")


def replace_by_file(folder, amount):
    shutil.rmtree(folder)
    folder.touch()


def limit_memory(path, amount):
    """Allow so many bytes more than are in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + amount
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def limit_files(path, amount):
    """Allow no further open file."""
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, lowest))


def kill_worker(path, amount):
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


def fill_gpu(path, amount):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 is full.")


def stumble(path, amount):
    raise KeyError("a mistake")


DEEDS = {
    "remove": remove_all,
    "garble": garble_all,
    "remove folder": lambda folder, amount: shutil.rmtree(folder),
    "replace folder": replace_by_file,
    "memory": limit_memory,
    "files": limit_files,
    "kill worker": kill_worker,
    "gpu": fill_gpu,
    "bug": stumble,
}


def list_then(deed, path="", amount=0, **options):
    """List the cases, and do harm between their check and the loading of the first."""
    cases = load_datalist(**options)
    DEEDS[deed](Path(path), amount)
    return cases


def run_command(words, folder):
    """Run ``python -m monai.bundle run ...`` as the interpreter does, with its way to end."""
    os.chdir(folder)
    sys.argv = ["monai.bundle", "run", *words]
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    except Exception:
        sys.excepthook(*sys.exc_info())
        raise SystemExit(1) from None
