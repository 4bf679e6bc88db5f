"""Start and stop, the device, and the network's wrapper, in one process."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline import parallel
from pipeline.issues import InputError
from pipeline.parallel.agreement import explain_lost_process, record_failure
from tests.parallel import handler_jobs
from tests.parallel.pair import Pair

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_without_torchrun_one_process_trains_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        parallel.start("cpu")
    assert "one process" in caplog.text
    assert not torch.distributed.is_initialized()
    network = nn.BatchNorm2d(1)
    assert parallel.wrap_network(network, "cpu") is network
    parallel.stop()


def test_half_of_torchruns_variables_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"^not set: LOCAL_RANK, MASTER_ADDR, MASTER_PORT; start the processes with"):
        parallel.start("cpu")


def test_the_device_is_the_gpu_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert parallel.find_device() == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert parallel.find_device() == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="process 2 of this machine has no GPU, there are 2: start torchrun with"):
        parallel.find_device()


def test_without_a_gpu_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parallel.find_device() == torch.device("cpu")


def test_a_flag_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="--find_unused_parameters must be true or false, got 'maybe'"):
        parallel.wrap_network(nn.Linear(1, 1), "cpu", find_unused_parameters="maybe")


def test_only_lost_processes_are_explained(pair: Pair) -> None:
    assert explain_lost_process(RuntimeError("/gloo/transport: closed")) is None, "there is no other process"
    first, _ = pair.run(handler_jobs.explain_errors)
    assert first == {"gloo": True, "torch": True, "wrapped": True, "other": False}


def test_torchrun_is_told_the_line(pair: Pair, tmp_path: Path) -> None:
    pair.run(handler_jobs.record_errors, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"0.json"}, "a silent exit says nothing"
    content = json.loads((tmp_path / "0.json").read_text())
    assert content["message"]["message"] == "disk full"
    assert int(content["message"]["extraInfo"]["timestamp"]) > 1_700_000_000


def test_alone_nothing_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    record_failure(InputError("disk full"))
    assert not list(tmp_path.iterdir())


def test_parameters_that_a_pass_leaves_out_can_be_looked_for(pair: Pair) -> None:
    assert pair.run(handler_jobs.train_with_unused_parameters) == [[True, True], [True, True]]
