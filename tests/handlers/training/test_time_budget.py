"""TimeBudget: a training ends after an epoch, validated and saved as if it were the last one."""

import json

import whole_training
from ignite.engine import Events
from tiny_training import read_losses

from pipeline.handlers import TimeBudget
from pipeline.handlers.training.time_budget import FILE, read_seconds


class Clock:
    """A clock that only the iterations move on: 10 s each, 3 in an epoch."""

    def __init__(self):
        self.now = 0.0

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_STARTED, self.tick)

    def tick(self):
        self.now += 10.0

    def monotonic(self):
        return self.now


def train(folder, monkeypatch, seconds, **options):
    clock = Clock()
    monkeypatch.setattr("pipeline.handlers.training.time_budget.time", clock)
    trainer = whole_training.build(folder, after=[clock, TimeBudget(folder, seconds)], interval=5, **options)
    trainer.run()
    return trainer


def test_the_epoch_in_which_the_time_is_over_is_the_last(tmp_path, monkeypatch):
    trainer = train(tmp_path, monkeypatch, 50.0, max_epochs=9)
    assert trainer.state.epoch == 2
    # Validated although the interval is 5, and before the checkpoint.
    assert (tmp_path / "model.pt").exists()
    assert trainer.checkpoint_handler.best_epoch == 2
    assert json.loads((tmp_path / FILE).read_text()) == {"seconds": 60.0, "is_over": True}
    record = whole_training.read_record(tmp_path)
    assert (record["status"], record["epochs"], record["max_epochs"]) == ("finished", 2, 9)


def test_enough_time_changes_nothing(tmp_path, monkeypatch):
    train(tmp_path / "limited", monkeypatch, 1e6)
    whole_training.build(tmp_path / "plain", interval=5).run()
    losses = [read_losses(tmp_path / name / "losses.txt") for name in ("limited", "plain")]
    assert losses[0] == losses[1]
    assert json.loads((tmp_path / "limited" / FILE).read_text()) == {"seconds": 120.0, "is_over": False}


def test_the_time_of_a_resumed_training_counts(tmp_path, monkeypatch):
    train(tmp_path, monkeypatch, 1e6, max_epochs=2)
    assert read_seconds(tmp_path) == 60.0
    trainer = train(tmp_path, monkeypatch, 110.0, max_epochs=9, resume=True)
    assert trainer.state.epoch == 4
    assert read_seconds(tmp_path) == 120.0


def test_a_new_training_begins_at_zero(tmp_path, monkeypatch):
    (tmp_path / FILE).write_text('{"seconds": 1000}')
    assert train(tmp_path, monkeypatch, 80.0, max_epochs=9).state.epoch == 3


def test_at_least_one_epoch(tmp_path, monkeypatch):
    assert train(tmp_path, monkeypatch, 0.0, max_epochs=9).state.epoch == 1
    assert read_seconds(tmp_path / "nowhere") == 0.0
