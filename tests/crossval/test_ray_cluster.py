"""What is decided around Ray, without Ray: resources, machines that lack something, folders of lost machines."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest

import pipeline
from pipeline.crossval.crossval_options import CrossvalOptions
from pipeline.crossval.fold_job import FoldJob
from pipeline.crossval.ray_cluster import await_folder, choose_resources, list_epochs, look_around
from pipeline.issues import InputError


@pytest.mark.parametrize(
    ("nodes", "asked", "number", "chosen"),
    [
        ([{"CPU": 2.0}], {}, 5, (1.0, 0.0)),
        ([{"CPU": 64.0}], {}, 5, (12.0, 0.0)),
        ([{"CPU": 16.0}, {"CPU": 16.0}], {}, 5, (5.0, 0.0)),
        ([{"CPU": 32.0, "GPU": 4.0}, {"CPU": 8.0}], {}, 5, (8.0, 1.0)),
        ([{"CPU": 8.0, "GPU": 1.0}], {"gpus_per_fold": 0.5}, 5, (4.0, 0.5)),
        ([{"CPU": 8.0, "GPU": 1.0}], {"gpus_per_fold": 0.0, "cpus_per_fold": 2.0}, 5, (2.0, 0.0)),
    ],
)
def test_resources(
    nodes: list[dict[str, float]], asked: dict[str, float], number: int, chosen: tuple[float, float]
) -> None:
    assert choose_resources(nodes, CrossvalOptions(Path(), **asked), number) == chosen


def test_what_no_machine_has() -> None:
    with pytest.raises(
        InputError, match=r"no machine of the cluster has 4 CPUs and 2 GPUs for a fold \(they have 8 CPUs"
    ):
        choose_resources([{"CPU": 8.0, "GPU": 1.0}], CrossvalOptions(Path(), gpus_per_fold=2, cpus_per_fold=4), 5)


def test_machines_that_lack_something(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    assert "has no folder /nowhere; start the command in a folder that all" in look_around("/nowhere", str(probe), "")
    assert f"does not see {tmp_path}; name a shared folder" in look_around(str(tmp_path), str(probe), "")
    probe.touch()
    assert "has version" in look_around(str(tmp_path), str(probe), "other")
    assert look_around(str(tmp_path), str(probe), pipeline.__version__) == ""


def write_lock(folder: Path, host: str) -> Path:
    lock = folder / ".run.lock"
    lock.write_text(json.dumps({"pid": os.getpid(), "host": host, "started": "now"}))
    return lock


def test_the_lock_of_a_lost_machine_is_removed_after_a_silence(tmp_path: Path) -> None:
    lock = write_lock(tmp_path, "elsewhere")
    (tmp_path / "log.txt").touch()
    began = time.time()
    await_folder(tmp_path, silence=0.3)
    assert time.time() - began >= 0.25
    assert not lock.exists()


def test_other_locks_stay(tmp_path: Path) -> None:
    await_folder(tmp_path)
    lock = write_lock(tmp_path, socket.gethostname())
    await_folder(tmp_path)
    assert lock.exists()


def test_the_last_epoch_of_each_training(tmp_path: Path) -> None:
    jobs = [FoldJob(fold, "", f"fold_{fold}", (), (), (), (), str(tmp_path)) for fold in range(3)]
    for fold, log in enumerate(
        ("12:00:00 INFO training: epochs 1 to 9\n", "INFO epoch 1/9  loss 2\nINFO epoch 2/9  loss 1\nx")
    ):
        (tmp_path / f"fold_{fold}").mkdir()
        (tmp_path / f"fold_{fold}/log.txt").write_text(log)
    assert list_epochs(jobs) == ["  fold 1: epoch 2/9  loss 1"]
