"""Real trainings: the same tables and weights after kills, with Ray, and after the loss of a worker of Ray."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pipeline.weights import read_plain
from tests.crossval.conftest import ROOT, Photographs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: .[cluster]")
EPOCHS = 3


def make_command(photographs: Photographs, output_dir: Path, *more: str) -> list[str]:
    settings = ["image_size=[32,32]", "network_def#features=[4,4,8,8,8,4]", f"max_epochs={EPOCHS}", "amp=false"]
    words = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "pipeline", *photographs.words(output_dir, *words, *more)]


def make_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(photographs: Photographs, output_dir: Path, *more: str) -> str:
    done = subprocess.run(
        make_command(photographs, output_dir, *more),
        env=make_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def started(photographs: Photographs, output_dir: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command as the leader of a group of processes, all of which are killed at the end."""
    with (output_dir.parent / f"{output_dir.name}.log").open("a") as log:
        process = subprocess.Popen(
            make_command(photographs, output_dir, *more),
            env=make_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended early"
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def straight(photographs: Photographs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation that nothing interrupted."""
    folder = tmp_path_factory.mktemp("straight") / "out"
    out = run(photographs, folder)
    assert "cross-validation, 5 of 5 folds" in out
    return folder


def assert_equal(found: Path, expected: Path, folds: int = 5) -> None:
    """Compare all tables byte for byte, and all weights bit by bit; of fewer folds only theirs."""
    tables = sorted(path.relative_to(found) for path in found.rglob("*.csv"))
    assert len(tables) == 9 + folds * 12  # metrics.csv and tables by case, of all folds and of each
    for table in tables if folds == 5 else [table for table in tables if len(table.parts) > 1]:
        assert (found / table).read_bytes() == (expected / table).read_bytes(), table
    for fold in range(folds):
        for name in ("model.pt", f"last_epoch={EPOCHS}.pt"):
            states = [read_plain(folder / f"fold_{fold}/{name}") for folder in (found, expected)]
            states = [state.get("network", state) for state in states]
            torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    records = [json.loads((folder / "evaluate.json").read_text()) for folder in (found, expected)]
    assert folds < 5 or records[0]["metrics"] == records[1]["metrics"]


@pytest.mark.fault
def test_killed_twice(photographs: Photographs, straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    moments = [
        lambda: (folder / "fold_1/last_epoch=1.pt").exists(),  # within a training
        lambda: "weights from" in (folder / "fold_2/log.txt").read_text() if (folder / "fold_2").exists() else False,
    ]
    for moment in moments:
        with started(photographs, folder) as process:
            wait_for(moment, process)
            os.killpg(process.pid, signal.SIGKILL)
            assert process.wait(30) == -signal.SIGKILL
        assert not (folder / "metrics.csv").exists()
    run(photographs, folder)
    assert_equal(folder, straight)
    log = (folder / "fold_1/log.txt").read_text()
    assert "resumed after epoch" in log
    assert "took over" in log, "the lock of the killed training"


@pytest.mark.fault
def test_stopped_in_order(photographs: Photographs, straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for epoch, (number, code) in enumerate([(signal.SIGTERM, 143), (signal.SIGINT, 130)], start=1):
        with started(photographs, folder, "--folds", "1") as process:
            wait_for((folder / f"fold_0/last_epoch={epoch}.pt").exists, process)
            process.send_signal(number)
            assert process.wait(120) == code
    assert "stopped; the same command goes on where it stopped" in (tmp_path / "out.log").read_text()
    run(photographs, folder, "--folds", "1")
    assert_equal(folder, straight, folds=1)


def test_the_time_is_kept(photographs: Photographs, tmp_path: Path) -> None:
    out = run(photographs, tmp_path / "out", "--folds", "1", "--hours", "0.00001", "--set", "val_interval=3")
    result = json.loads((tmp_path / "out/fold_0/fold.json").read_text())
    assert (result["ended"], result["epochs"], result["max_epochs"]) == ("time", 1, EPOCHS)
    assert "the time of the training was over before its last epoch in these folds: 0" in out


@needs_ray
def test_two_workers_of_ray(photographs: Photographs, straight: Path, tmp_path: Path) -> None:
    run(photographs, tmp_path / "out", "--cluster", "local", "--cpus_per_fold", "1")
    assert_equal(tmp_path / "out", straight)


@needs_ray
@pytest.mark.fault
def test_a_lost_worker_of_ray(photographs: Photographs, straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with started(photographs, folder, "--folds", "2", "--cluster", "local", "--cpus_per_fold", "1") as process:
        wait_for((folder / "fold_1/last_epoch=1.pt").exists, process)
        trainer = json.loads((folder / "fold_1/.run.lock").read_text())["pid"]
        worker = int(Path(f"/proc/{trainer}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(worker, signal.SIGKILL)
        assert process.wait(1200) == 0, (tmp_path / "out.log").read_text()
    assert "resumed after epoch" in (folder / "fold_1/log.txt").read_text()
    assert_equal(folder, straight, folds=2)


@needs_ray
@pytest.mark.fault
def test_ray_is_stopped_in_order(photographs: Photographs, straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with started(photographs, folder, "--folds", "2", "--cluster", "local", "--cpus_per_fold", "1") as process:
        wait_for((folder / "fold_0/last_epoch=1.pt").exists, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 143
    assert json.loads((folder / "fold_0/run.json").read_text())["status"] in ("interrupted", "finished")
    run(photographs, folder, "--folds", "2")
    assert_equal(folder, straight, folds=2)
