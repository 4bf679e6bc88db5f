"""A bundle's training, killed again and again: whole files, and losses equal to the last bit, also of a longer run."""

import random
import signal
import time
from collections import Counter

import bundle_training
import pytest
import tiny_training
import torch

from pipeline.datasets.phantoms import write_isic_phantom
from pipeline.handlers.checkpoints.checkpoint_files import find_last
from pipeline.weights import read_plain

pytestmark = [pytest.mark.fault]
BATCHES, CASES = 3, 2  # in an epoch of the phantom, and of its validation
KINDS = ("training", "validation", "saving", "any time")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    manifest = write_isic_phantom(tmp_path_factory.mktemp("phantom"))
    return {"dataset_dir": str(manifest.parent / "isic2018"), "manifest": str(manifest)}


class Training:
    """A training in a folder that is killed, resumed and compared; counts the kills by their moment."""

    def __init__(self, start, folder, data, seed):
        self.start, self.folder, self.data = start, folder, data
        self.random, self.kills = random.Random(seed), Counter()

    @property
    def epoch(self):
        """The last complete epoch."""
        newest = find_last(self.folder)
        return int(newest[0].stem.partition("=")[2]) if newest else 0

    def launch(self, changes, moment=None):
        (self.folder / "waiting").unlink(missing_ok=True)
        options = {"resume": self.epoch > 0, **changes}
        return self.start(bundle_training.train, str(self.folder), self.data, options, moment)

    def kill(self, kind, changes, most_epochs):
        """Kill one process, then read every file that has a final name."""
        ahead = min(most_epochs, changes["max_epochs"] - self.epoch)
        if kind == "any time" and ahead < 3:
            kind = "training"
        if kind == "any time":
            child = self.launch(changes)
            child.wait_for(lambda: self.is_held_by(child), 600)
            time.sleep(self.random.uniform(0, 0.5))
            assert child.process.is_alive()
        else:
            most = {"training": BATCHES * ahead, "validation": CASES * ahead, "saving": ahead}[kind]
            child = self.launch(changes, (kind, self.random.randint(1, most)))
            child.wait_for((self.folder / "waiting").exists, 600)
        before = self.epoch
        child.kill(signal.SIGKILL)
        assert child.join(300) == -signal.SIGKILL
        self.check_files()
        assert self.epoch - before in (0, 1)  # one more where a checkpoint was being renamed
        half = sorted(path.name[1:].partition("_")[0].partition(".")[0] for path in self.folder.glob(".*.tmp"))
        self.kills[f"{kind} {half[0]}" if kind == "saving" else kind] += 1

    def is_held_by(self, child):
        """Return whether the process has started to train: it holds the folder's lock."""
        lock = self.folder / ".run.lock"
        return lock.exists() and f'"pid": {child.pid},' in lock.read_text()

    def check_files(self):
        for path in find_last(self.folder):
            assert read_plain(path)["trainer"]["epoch"] == int(path.stem.partition("=")[2])
        if find_last(self.folder):
            best = read_plain(find_last(self.folder)[0])["best"]
            assert best["epoch"] is None or (self.folder / "model.pt").exists()
        if (self.folder / "model.pt").exists():
            assert all(isinstance(value, torch.Tensor) for value in read_plain(self.folder / "model.pt").values())

    def finish(self, changes):
        child = self.launch(changes)
        assert child.join(1500) == 0, child.output


def run(start, target, *arguments):
    child = start(target, *arguments)
    assert child.join(1500) == 0, child.output


def assert_equal(found, expected, after=0):
    """Compare all losses after an epoch and the last states, bit by bit."""
    losses = [tiny_training.read_losses(folder / "losses.txt") for folder in (found, expected)]
    losses = [{key: loss for key, loss in table.items() if key[0] > after} for table in losses]
    assert losses[0] == losses[1]
    assert losses[0]
    states = [read_plain(find_last(folder)[0]) for folder in (found, expected)]
    for name in ("network", "optimizer", "lr_scheduler"):
        torch.testing.assert_close(states[0][name], states[1][name], rtol=0, atol=0)
    if not after:
        best = [read_plain(folder / "model.pt") for folder in (found, expected)]
        torch.testing.assert_close(best[0], best[1], rtol=0, atol=0)
        assert states[0]["best"] == states[1]["best"]


def kill_and_compare(start, folder, data, workers, epochs, kinds, most_epochs):
    """Compare a run that was killed with one that was not; return the kills."""
    changes = {"max_epochs": epochs, "num_workers": workers}
    run(start, bundle_training.train, str(folder / "straight"), data, changes)
    training = Training(start, folder / "run", data, seed=epochs + workers)
    for kind in kinds:
        training.kill(kind, changes, most_epochs)
    training.finish(changes)
    assert_equal(folder / "run", folder / "straight")
    return training.kills


def kill_raise_and_compare(start, folder, data, workers, epochs, more, kinds, most_epochs):
    """Kill a run, raise its epochs and its rate, kill it further; compare with a fresh training from that point on."""
    training = Training(start, folder / "run", data, seed=epochs + workers)
    short = {"max_epochs": epochs, "num_workers": workers}
    long = {**short, "max_epochs": more, "learning_rate": 0.003}
    half = len(kinds) // 2
    for kind in kinds[:half]:
        training.kill(kind, short, most_epochs)
    if not training.epoch:
        training.finish({**short, "max_epochs": 1})
    done, checkpoint = training.epoch, folder / "checkpoint.pt"
    checkpoint.write_bytes(find_last(training.folder)[0].read_bytes())
    run(start, bundle_training.go_on_by_hand, str(folder / "by hand"), data, long, str(checkpoint))
    for kind in kinds[half:]:
        training.kill(kind, long, most_epochs)
    training.finish(long)
    assert_equal(folder / "run", folder / "by hand", after=done)
    return training.kills


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_few_kills(start, tmp_path, data):
    kill_and_compare(start, tmp_path, data, 2, 4, ("training", "saving", "validation"), 2)


@pytest.mark.timeout(900)
def test_a_few_kills_and_more_epochs(start, tmp_path, data):
    kill_raise_and_compare(start, tmp_path, data, 0, 3, 5, ("saving", "training", "validation", "saving"), 2)


def spread(count):
    return [KINDS[number % len(KINDS)] for number in range(count)]


# 60 kills in all.
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("epochs", "count", "most_epochs"), [(8, 10, 2), (40, 12, 6)])
@pytest.mark.parametrize("workers", [0, 2])
def test_many_kills(start, tmp_path, data, workers, epochs, count, most_epochs):
    kills = kill_and_compare(start, tmp_path, data, workers, epochs, spread(count), most_epochs)
    print(f"\n{sum(kills.values())} kills:", dict(kills))
    assert sum(kills.values()) == count


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workers", [0, 2])
def test_many_kills_and_more_epochs(start, tmp_path, data, workers):
    kills = kill_raise_and_compare(start, tmp_path, data, workers, 6, 12, spread(8), 2)
    print(f"\n{sum(kills.values())} kills:", dict(kills))
    assert sum(kills.values()) == 8
