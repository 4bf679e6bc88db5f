"""LoaderTimes: what a trainer waits for its data, told when it is much, with what to type next."""

import logging

import pytest
import torch
from ignite.engine import Engine
from monai.data import CacheDataset, DataLoader

from pipeline.handlers import LoaderTimes
from pipeline.handlers.logs import loader_times

LINE = "the loader is the bottleneck: %d %% of epoch 2 was waiting for data; "


class Clock:
    """A clock that loading and training move on."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Slow:
    """Three batches, each of which takes some seconds to load."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds

    def __len__(self):
        return 3

    def __iter__(self):
        for _ in range(3):
            self.clock.now += self.seconds
            yield 0


def run(monkeypatch, caplog, loading, training, epochs=3):
    clock = Clock()
    monkeypatch.setattr(loader_times, "time", clock)
    monkeypatch.setattr(loader_times, "advise", lambda loader, device: "do this")

    def step(engine, batch):
        clock.now += training

    engine, times = Engine(step), LoaderTimes()
    times.attach(engine)
    with caplog.at_level(logging.INFO):
        engine.run(Slow(clock, loading), max_epochs=epochs)
    return times.describe()["epoch_times"], [text for text in caplog.messages if "bottleneck" in text]


def test_a_slow_loader_is_told_once(monkeypatch, caplog):
    epochs, lines = run(monkeypatch, caplog, 1.0, 3.0)
    assert lines == [LINE % 25 + "do this"]
    assert epochs == [{"epoch": number, "seconds": 12.0, "waiting": 3.0} for number in (1, 2, 3)]


def test_a_fast_loader_is_only_recorded(monkeypatch, caplog):
    epochs, lines = run(monkeypatch, caplog, 1.0, 5.0)
    assert lines == []
    assert epochs[2] == {"epoch": 3, "seconds": 18.0, "waiting": 3.0}


def test_the_first_epoch_is_cold(monkeypatch, caplog):
    assert run(monkeypatch, caplog, 1.0, 1.0, epochs=1)[1] == []


def build(workers=0, rate=1.0):
    return DataLoader(CacheDataset([{"a": 1}] * 4, cache_rate=rate, progress=False), num_workers=workers)


@pytest.mark.parametrize(
    ("loader", "device", "cores", "useful", "expected"),
    [
        ({}, "cuda", 16, 8, ["load in more processes with --num_workers 8"]),
        ({"workers": 2, "rate": 0.5}, "cuda", 16, 2, ["keep all cases in memory with --cache_rate 1.0"]),
        ({"rate": 0.0}, "cpu", 16, 8, ["--cache_rate 1.0", "; load in more processes with --num_workers 2"]),
        ({}, "cpu", 2, 1, ["no setting loads faster here: shorten train#random_transforms or use more cores"]),
        ({"workers": 2}, "cpu", 16, 8, ["no setting loads faster here"]),
        ({}, "cuda", 16, 0, ["no setting loads faster here"]),
    ],
)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_what_to_type_next(monkeypatch, loader, device, cores, useful, expected):
    monkeypatch.setattr(loader_times, "count_cores", lambda: cores)
    monkeypatch.setattr(loader_times, "find_most_useful", lambda: useful)
    text = loader_times.advise(build(**loader), torch.device(device))
    assert all(part in text for part in expected), text
    assert ("cache_rate" in text) == ("rate" in loader)


def test_any_loader_will_do():
    assert "bottleneck" not in loader_times.advise([1, 2], None)
