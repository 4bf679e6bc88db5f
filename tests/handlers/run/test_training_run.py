"""TrainingRun: each of its handlers does its work, in the order in which they would be listed one by one."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.transforms import Compose, EnsureTyped, RandGaussianNoised
from monai.utils import set_determinism
from tiny_training import KEY, LossLog, PoisonAt, build_evaluator, build_network, make_cases, read_losses

from pipeline import handlers
from pipeline.issues import InputError


class Scalars:
    """In place of TensorBoard's writer."""

    def __init__(self):
        self.written = []

    def add_scalar(self, tag, value, step):
        self.written.append((tag, step))

    def close(self):
        self.closed = True


def build(folder, max_epochs=4, one_by_one=False, after=(), writer=None, **options):
    set_determinism(3)
    noise = Compose([EnsureTyped(["image", "label"]), RandGaussianNoised("image", prob=0.5)])
    loader = DataLoader(CacheDataset(make_cases(6), noise, progress=False), batch_size=2, shuffle=True)
    network = build_network()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    evaluator = build_evaluator(network)
    to_save = {"network": network, "optimizer": optimizer, "lr_scheduler": scheduler}
    schedule, validation = LrScheduleHandler(scheduler, print_lr=False), ValidationHandler(1, evaluator)
    if one_by_one:
        run = [
            handlers.RunLock(folder),
            handlers.GracefulStop(),
            handlers.EpochSeed(3, loader),
            schedule,
            handlers.NonFiniteGuard(folder),
            validation,
            handlers.FinalValidation(evaluator),
            handlers.TrainingCheckpoint(folder, to_save, evaluator, KEY),
            handlers.EarlyStop(evaluator, KEY),
            handlers.RunRecord(folder, 3, evaluator=evaluator),
            handlers.LearningRateLog(writer, optimizer),
            handlers.SummaryWriterEnd(writer),
        ]
    else:
        run = [
            schedule,
            validation,
            handlers.TrainingRun(folder, loader, evaluator, to_save, KEY, seed=3, summary_writer=writer, **options),
        ]
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=max_epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=torch.nn.BCEWithLogitsLoss(),
        train_handlers=[*run, LossLog(folder / "losses.txt"), *after],
    )
    trainer.evaluator = evaluator
    if one_by_one:
        handlers.EmptyPredictions("look", trainer).attach(evaluator)
    return trainer


def list_calls(engine):
    """List the functions that each event calls, in order."""
    names = {event: [handler for handler, _, _ in calls] for event, calls in engine._event_handlers.items() if calls}
    return {
        event: [getattr(call, "__qualname__", type(call).__name__) for call in calls] for event, calls in names.items()
    }


def read_record(folder):
    return json.loads((folder / "run.json").read_text())


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
