"""kill -9 at any moment leaves a best and a last checkpoint that load, and the next run goes on from them."""

import random
import signal
import time

import endless_saving
import pytest
import torch

from pipeline.handlers.checkpoints.checkpoint_files import find_last

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]


def read_epoch(state):
    """Read which epoch saved it, and that it is of one piece."""
    weight = state["weight"]
    assert weight.min() == weight.max()
    return int(weight[0, 0])


def test_twenty_kills_leave_only_whole_files(tmp_path, start):
    folder, moments = tmp_path / "run", random.Random(0)
    resume, epoch, interrupted = False, 0, 0
    for _ in range(20):
        child = start(endless_saving.save_without_pause, str(folder), resume)
        child.wait_for(lambda: len(find_last(folder)) and find_last(folder)[0].name != f"last_epoch={epoch}.pt")  # noqa: B023
        time.sleep(moments.uniform(0, 0.15))
        child.kill(signal.SIGKILL)
        assert child.join() == -signal.SIGKILL

        best = read_epoch(torch.load(folder / "model.pt", weights_only=True))
        for path in find_last(folder):
            last = torch.load(path, weights_only=True)
            assert f"last_epoch={read_epoch(last['network'])}.pt" == path.name
        newest = int(find_last(folder)[0].stem.partition("=")[2])
        assert newest > epoch
        assert best in (newest, newest + 1)
        interrupted += len(list(folder.glob(".*.tmp")))
        resume, epoch = True, newest
    assert interrupted  # the kills did hit the writing

    child = start(endless_saving.save_without_pause, str(folder), True, epoch + 2)
    assert child.join() == 0, child.output
    expected = {f"last_epoch={epoch + 1}.pt", f"last_epoch={epoch + 2}.pt", "model.pt"}
    assert {path.name for path in folder.iterdir()} == expected
