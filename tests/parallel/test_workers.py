"""The number of workers follows device, cores, quota, processes on the machine and shared memory."""

import logging
import multiprocessing
import os
import shutil
from types import SimpleNamespace

import pytest
import torch

from pipeline.issues import InputError
from pipeline.parallel import FittedDataLoader, fit_workers, workers


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that pretends another machine: cores, MB of shared memory, quota, processes, start method."""

    def pretend(cores, shared=64_000, quota=None, processes=None, method="fork"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=shared * 10**6))
        monkeypatch.setattr(workers, "_SHARED", tmp_path)
        monkeypatch.setattr(workers, "_QUOTA", tmp_path / "cpu.max")
        if quota is not None:
            (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none=False: method)
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        if processes is not None:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))

    return pretend


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cores": 16}, 8),
        ({"cores": 6}, 5),
        ({"cores": 2}, 1),
        ({"cores": 1}, 1),
        ({"cores": 16, "quota": "400000"}, 3),
        ({"cores": 16, "quota": "50000"}, 1),
        ({"cores": 16, "quota": "max"}, 8),
        ({"cores": 16, "processes": 4}, 3),
        ({"cores": 4, "processes": 8}, 1),
        ({"cores": 16, "shared": 64}, 0),
        ({"cores": 16, "shared": 1100}, 4),
        ({"cores": 16, "shared": 1100, "processes": 2}, 2),
        ({"cores": 16, "method": "spawn"}, 0),
    ],
)
def test_a_gpu_is_fed_by_the_cores_of_its_process(machine, options, expected):
    machine(**options)
    assert fit_workers("auto", "cuda:0") == expected
    assert fit_workers("auto", torch.device("cuda", 1)) == expected


def test_a_cpu_computes_with_all_its_cores(machine):
    machine(cores=16)
    assert fit_workers("auto", "cpu") == 0


def test_a_number_that_was_typed_counts(machine):
    machine(cores=16, shared=64)
    assert fit_workers(12, "cuda:0") == 12
    assert fit_workers(3, "cpu") == 3


@pytest.mark.parametrize("number", [-1, 2.5, True, "many"])
def test_another_value_is_refused(number):
    with pytest.raises(InputError, match=r"^--num_workers must be auto or a whole number from 0, got "):
        fit_workers(number, "cpu")


def test_small_shared_memory_is_told(machine, caplog, tmp_path):
    machine(cores=16, shared=600)
    with caplog.at_level(logging.WARNING):
        assert fit_workers("auto", "cuda") == 2
    expected = f"2 workers load the data, not 8: {tmp_path} is small; give more, for example docker run --shm-size 8g"
    assert caplog.messages == [expected]


def test_memory_is_pinned_for_a_gpu_only(machine):
    machine(cores=3)
    loader = FittedDataLoader([1, 2, 3], device="cuda:0", batch_size=2)
    assert (loader.num_workers, loader.pin_memory) == (2, True)
    loader = FittedDataLoader([1, 2, 3], device=torch.device("cpu"), num_workers=1)
    assert (loader.num_workers, loader.pin_memory) == (1, False)
    assert not FittedDataLoader([1], device="cuda", num_workers=0, pin_memory=False).pin_memory
