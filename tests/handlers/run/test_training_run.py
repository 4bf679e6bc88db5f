"""TrainingRun: each of its handlers does its work, in the order in which they would be listed one by one."""

import logging
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from tiny_training import KEY, PoisonAt, read_losses
from whole_training import Scalars, build, read_record

from pipeline.issues import InputError


def list_calls(engine):
    """List the functions that each event calls, in order."""
    names = {event: [handler for handler, _, _ in calls] for event, calls in engine._event_handlers.items() if calls}
    return {
        event: [getattr(call, "__qualname__", type(call).__name__) for call in calls] for event, calls in names.items()
    }


def test_every_event_calls_the_same_functions_in_the_same_order(tmp_path):
    single, together = (build(tmp_path, one_by_one=flag, writer=Scalars()) for flag in (True, False))
    assert list_calls(together) == list_calls(single)
    assert list_calls(together.evaluator) == list_calls(single.evaluator)
    assert len(list_calls(together)[Events.STARTED]) >= 5


def test_each_part_does_its_work(tmp_path):
    writer, held = Scalars(), []
    trainer = build(tmp_path, 2, writer=writer)
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: held.append((tmp_path / ".run.lock").exists()))
    trainer.run()
    assert held == [True, True]
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.pt",
        "last_epoch=1.pt",
        "last_epoch=2.pt",
        "losses.txt",
        "run.json",
    }
    record = read_record(tmp_path)
    assert (record["status"], record["seed"], record["epochs"]) == ("finished", 3, 2)
    assert record["best"]["metric"] == KEY
    assert writer.written == [("learning_rate", 1), ("learning_rate", 2)]
    assert writer.closed


def test_it_computes_what_they_compute(tmp_path):
    build(tmp_path / "single", one_by_one=True, writer=Scalars()).run()
    build(tmp_path / "together").run()
    single, together = (read_losses(tmp_path / name / "losses.txt") for name in ("single", "together"))
    assert together == single


def test_a_resumed_run_is_exact(tmp_path):
    build(tmp_path / "straight").run()
    build(tmp_path / "broken", 2).run()
    build(tmp_path / "broken", resume="true").run()
    straight, broken = (tmp_path / name for name in ("straight", "broken"))
    assert read_losses(broken / "losses.txt") == read_losses(straight / "losses.txt")
    expected, found = (torch.load(folder / "last_epoch=4.pt", weights_only=True) for folder in (straight, broken))
    assert all(torch.equal(found["network"][name], value) for name, value in expected["network"].items())
    assert len(read_record(broken)["previous"]) == 1


def test_an_earlier_run_is_not_overwritten(tmp_path):
    build(tmp_path, 1).run()
    before = read_record(tmp_path)
    with pytest.raises(InputError, match="from an earlier run: continue it with --resume true"):
        build(tmp_path, 1).run()
    assert read_record(tmp_path) == before


def test_it_stops_early(tmp_path, monkeypatch):
    trainer = build(tmp_path, 4, patience=1)
    monkeypatch.setattr(trainer.evaluator, "metric_cmp_fn", lambda current, best: False)
    trainer.run()
    assert trainer.state.epoch == 2


def test_it_stops_at_a_loss_that_is_not_finite(tmp_path):
    with pytest.raises(InputError, match="loss is nan in epoch 2, iteration 4"):
        build(tmp_path, after=[PoisonAt(4)]).run()
    assert read_record(tmp_path)["status"] == "failed"
    assert not (tmp_path / ".run.lock").exists()


def test_it_stops_on_a_signal(tmp_path):
    trainer = build(tmp_path)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        trainer.run()
    assert caught.value.code == 143
    assert read_record(tmp_path)["status"] == "interrupted"
    assert Path(tmp_path / "last_epoch=1.pt").exists()


def test_without_a_writer_no_learning_rate_is_logged(tmp_path):
    trainer = build(tmp_path)
    assert not [name for calls in list_calls(trainer).values() for name in calls if "LearningRateLog" in name]


def stop_after(folder, epochs, interval):
    """Stop a training by a signal after some complete epochs."""
    trainer = build(folder, 50, interval=interval)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=epochs), lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        trainer.run()


def test_a_run_stopped_before_its_first_validation_ends_with_a_best_checkpoint(tmp_path):
    stop_after(tmp_path, 2, interval=5)
    assert not (tmp_path / "model.pt").exists()
    build(tmp_path, 2, interval=5, resume=True).run()
    assert read_record(tmp_path)["best"]["epoch"] == 2
    weights, last = (torch.load(tmp_path / name, weights_only=True) for name in ("model.pt", "last_epoch=2.pt"))
    assert all(torch.equal(weights[name], value) for name, value in last["network"].items())


def test_a_finished_run_that_is_resumed_validates_only_if_its_best_is_missing(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    build(tmp_path, 2).run()
    validations = []
    for missing in (False, True):
        if missing:
            (tmp_path / "model.pt").unlink()
        trainer = build(tmp_path, 2, resume=True)
        trainer.evaluator.add_event_handler(Events.COMPLETED, lambda: validations.append(1))
        trainer.run()
        assert (tmp_path / "model.pt").exists()
        assert len(validations) == missing
        (last,) = [line for line in caplog.messages if line.startswith("0 epochs in ")]
        assert re.search(r"; best val_mean_dice \d\.\d+ in epoch [12]$", last)
        caplog.clear()
    assert not (tmp_path / ".run.lock").exists()
