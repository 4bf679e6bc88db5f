"""Training runs that are killed, stopped by a signal, poisoned or started twice."""

import json
import os
import signal

import pytest
import tiny_training
import torch

from pipeline.handlers.checkpoints.checkpoint_files import find_last

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

STRAIGHT = {}


class Training:
    """A training in a process, its folder, and the gate at which it may wait."""

    def __init__(self, start, folder, *options, target=tiny_training.main):
        self.folder = folder
        self.child = start(target, [str(folder), *options])

    def wait_at_gate(self):
        self.child.wait_for((self.folder / "waiting").exists)

    def open_gate(self):
        (self.folder / "open").touch()

    def end(self):
        """Return the exit code and what was printed."""
        code = self.child.join()
        return code, self.child.output

    def losses(self):
        return tiny_training.read_losses(self.folder / "losses.txt")

    def record(self):
        return json.loads((self.folder / "run.json").read_text())


@pytest.fixture
def train(start, tmp_path):
    """Start a training in the test's folder."""

    def launch(*options, **keywords):
        return Training(start, tmp_path / "run", *options, **keywords)

    return launch


@pytest.fixture
def straight(start, tmp_path_factory):
    """Losses of a run that nothing interrupts, by number of workers; trained once."""

    def read(workers):
        if workers not in STRAIGHT:
            training = Training(start, tmp_path_factory.mktemp("straight"), "--workers", workers)
            assert training.end()[0] == 0
            STRAIGHT[workers] = training.losses()
        return STRAIGHT[workers]

    return read


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_kill_in_mid_epoch_changes_no_loss(train, straight, workers):
    killed = train("--gate", "8", "--workers", workers)  # in the third of four epochs
    killed.wait_at_gate()
    killed.child.kill(signal.SIGKILL)
    assert killed.end()[0] == -signal.SIGKILL
    assert killed.record()["status"] == "running"
    assert find_last(killed.folder)[0].name == "last_epoch=2.pt"

    resumed = train("--resume", "--workers", workers)
    code, output = resumed.end()
    assert code == 0, output
    assert "took over" in output
    assert "resumed after epoch 2 of 4" in output
    assert resumed.losses() == straight(workers)
    record = resumed.record()
    assert (record["status"], [earlier["status"] for earlier in record["previous"]]) == ("finished", ["running"])


@pytest.mark.parametrize(
    ("number", "code", "workers"), [(signal.SIGTERM, 143, "0"), (signal.SIGINT, 130, "0"), (signal.SIGTERM, 143, "2")]
)
def test_a_signal_ends_the_run_in_order(train, straight, number, code, workers):
    stopped = train("--gate", "5", "--workers", workers)
    stopped.wait_at_gate()
    stopped.child.kill(number)
    stopped.open_gate()
    ended, output = stopped.end()
    assert ended == code, output
    assert f"{number.name}: stopping after this iteration" in output
    assert f"stopped by {number.name} after 1 complete epochs; continue with --resume true" in output
    assert "Traceback" not in output
    assert max(stopped.losses()) == (2, 5)  # the iteration was finished
    assert (stopped.record()["status"], stopped.record()["epochs"]) == ("interrupted", 1)
    assert not (stopped.folder / ".run.lock").exists()

    resumed = train("--resume", "--workers", workers)
    assert resumed.end()[0] == 0
    assert resumed.losses() == straight(workers)


def lead_a_group(arguments):
    """Train in a separate process group, as a job of a shell does."""
    os.setpgrp()
    tiny_training.main(arguments)


def test_ctrl_c_reaches_the_workers_too_and_harms_nothing(train):
    training = train("--gate", "5", "--workers", "2", target=lead_a_group)
    training.wait_at_gate()
    os.killpg(training.child.pid, signal.SIGINT)
    training.open_gate()
    code, output = training.end()
    assert code == 130, output
    assert output.count("SIGINT: stopping") == 1
    assert "Traceback" not in output


def test_a_second_signal_ends_at_once(train):
    training = train("--gate", "2")
    training.wait_at_gate()
    training.child.kill(signal.SIGINT)
    training.child.wait_for(lambda: "again to stop at once" in training.child.output)
    training.child.kill(signal.SIGINT)  # the gate stays shut
    assert training.end()[0] == 130


def test_a_signal_during_validation_keeps_the_epoch(train):
    training = train("--validation-gate", "2")
    training.wait_at_gate()
    training.child.kill(signal.SIGTERM)
    training.open_gate()
    code, output = training.end()
    assert code == 143, output
    assert find_last(training.folder)[0].name == "last_epoch=1.pt"
    assert "after 1 complete epochs" in output


def test_a_loss_that_is_no_number(train):
    training = train("--poison", "8")
    code, output = training.end()
    assert code == 1
    lines = [line for line in output.splitlines() if "loss is nan" in line]
    assert len(lines) == 1
    assert lines[0].startswith("loss is nan in epoch 3, iteration 8: cases case_")
    assert "Traceback" not in output
    assert [path.name for path in find_last(training.folder)] == ["last_epoch=2.pt", "last_epoch=1.pt"]
    for path in [training.folder / "model.pt", *find_last(training.folder)]:
        assert_finite(torch.load(path, weights_only=True))
    assert (training.record()["status"], training.record()["error"]) == ("failed", lines[0])


def assert_finite(state):
    for value in state.values():
        if isinstance(value, dict):
            assert_finite(value)
        elif isinstance(value, torch.Tensor):
            assert torch.isfinite(value).all()


def test_a_second_run_in_the_folder_is_refused(train):
    first = train("--gate", "5")
    first.wait_at_gate()
    code, output = train("--resume").end()
    assert code == 1
    assert f"{first.folder} is in use by process {first.child.pid}, started" in output.splitlines()[-1]
    assert "Traceback" not in output
    first.open_gate()
    assert first.end()[0] == 0
    assert first.record()["status"] == "finished"
    assert "previous" not in first.record()
    assert len(first.losses()) == 12
