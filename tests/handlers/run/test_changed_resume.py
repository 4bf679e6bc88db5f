"""A training that is resumed with other settings goes on as an uninterrupted one with these settings would."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.optimizers import WarmupCosineSchedule
from monai.transforms import Compose, EnsureTyped, RandFlipd, RandGaussianNoised
from monai.utils import set_determinism
from tiny_training import KEY, LossLog, build_evaluator, build_network, make_cases, read_losses

from pipeline.handlers import TrainingRun
from pipeline.handlers.checkpoints.checkpoint_files import find_last
from pipeline.issues import InputError


class Scalars(dict[int, float]):
    """In place of TensorBoard's writer: the learning rate of each epoch."""

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self[step] = value

    def close(self) -> None:
        pass


class Settings:
    """What a user types."""

    def __init__(self, **changes: Any) -> None:
        self.max_epochs, self.learning_rate, self.batch_size, self.seed, self.first, self.count = 3, 0.01, 2, 3, 0, 6
        self.val_interval, self.weight_decay, self.width, self.patience = 2, 0.01, 4, 20
        for name, value in changes.items():
            assert hasattr(self, name)
            setattr(self, name, value)


def build(folder: Path, resume: bool = False, **changes: Any) -> SupervisedTrainer:
    settings = Settings(**changes)
    set_determinism(settings.seed)
    chain = [EnsureTyped(["image", "label"]), RandFlipd(["image", "label"], prob=0.5), RandGaussianNoised("image")]
    dataset = CacheDataset(make_cases(settings.count, settings.first), Compose(chain), progress=False, copy_cache=True)
    loader = DataLoader(dataset, batch_size=settings.batch_size, shuffle=True)
    network = build_network(settings.width)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = WarmupCosineSchedule(optimizer, 1, settings.max_epochs, warmup_multiplier=0.1)
    evaluator = build_evaluator(network)
    to_save = {"network": network, "optimizer": optimizer, "lr_scheduler": schedule}
    rates = Scalars()
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=settings.max_epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=torch.nn.BCEWithLogitsLoss(),
        train_handlers=[
            LrScheduleHandler(schedule, print_lr=False),
            ValidationHandler(settings.val_interval, evaluator),
            TrainingRun(
                *(folder, loader, evaluator, to_save, KEY),
                seed=settings.seed,
                resume=resume,
                patience=settings.patience,
                summary_writer=rates,
            ),
            LossLog(folder / "losses.txt"),
        ],
    )
    trainer.parts, trainer.rates, trainer.evaluator = to_save, rates, evaluator
    return trainer


def run(folder: Path, resume: bool = False, stop_after: int | None = None, **changes: Any) -> SupervisedTrainer:
    """Train; ``stop_after`` ends the run like a signal after that epoch."""
    trainer = build(folder, resume, **changes)
    if stop_after is None:
        trainer.run()
        return trainer

    def stop() -> None:
        raise SystemExit(143)

    trainer.add_event_handler(Events.EPOCH_STARTED(once=stop_after + 1), stop)
    with pytest.raises(SystemExit):
        trainer.run()
    return trainer


def go_on_by_hand(folder: Path, checkpoint: Path, **changes: Any) -> SupervisedTrainer:
    """Put a checkpoint into a fresh training with the settings of now, as one would do in a notebook, and train it."""
    state = torch.load(checkpoint, weights_only=True)
    trainer = build(folder, **changes)
    trainer.parts["network"].load_state_dict(state["network"])
    groups = trainer.parts["optimizer"].state_dict()["param_groups"]
    trainer.parts["optimizer"].load_state_dict({**state["optimizer"], "param_groups": groups})
    for _ in range(state["trainer"]["epoch"]):
        trainer.parts["lr_scheduler"].step()
    trainer.state.epoch, trainer.state.iteration = state["trainer"]["epoch"], state["trainer"]["iteration"]
    trainer.run()
    return trainer


def assert_equal_from(epoch: int, found: Path, expected: Path) -> None:
    """Compare losses from an epoch on and the last weights, bit by bit."""
    losses = [
        {key: loss for key, loss in read_losses(path / "losses.txt").items() if key[0] >= epoch}
        for path in (found, expected)
    ]
    assert losses[0] == losses[1]
    assert losses[0]
    states = [torch.load(find_last(path)[0], weights_only=True) for path in (found, expected)]
    torch.testing.assert_close(states[0]["network"], states[1]["network"], rtol=0, atol=0)
    assert states[0]["optimizer"]["param_groups"] == states[1]["optimizer"]["param_groups"]
    assert find_last(found)[0].name == find_last(expected)[0].name


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")  # by hand
@pytest.mark.parametrize(
    ("stop_after", "changes"),
    [
        (None, {"max_epochs": 7}),
        (1, {"max_epochs": 5}),
        (2, {"learning_rate": 0.002}),
        (None, {"max_epochs": 6, "learning_rate": 0.05, "weight_decay": 0.3}),
    ],
)
def test_losses_are_those_of_the_new_settings(stop_after: int | None, changes: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path / "run", stop_after=stop_after)
    checkpoint = find_last(tmp_path / "run")[0]
    done = 3 if stop_after is None else stop_after
    assert checkpoint.name == f"last_epoch={done}.pt"
    by_hand = go_on_by_hand(tmp_path / "by hand", checkpoint, **changes)
    resumed = run(tmp_path / "run", resume=True, **changes)
    assert_equal_from(done + 1, tmp_path / "run", tmp_path / "by hand")
    straight = run(tmp_path / "straight", **changes)
    assert resumed.rates == by_hand.rates == {epoch: rate for epoch, rate in straight.rates.items() if epoch > done}


def test_without_a_change_it_equals_the_uninterrupted_run(tmp_path: Path) -> None:
    run(tmp_path / "straight", max_epochs=6)
    run(tmp_path / "run", stop_after=2, max_epochs=6)
    run(tmp_path / "run", resume=True, max_epochs=6)
    assert_equal_from(1, tmp_path / "run", tmp_path / "straight")
    best = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("run", "straight")]
    torch.testing.assert_close(best[0], best[1], rtol=0, atol=0)


def test_the_case_of_a_finished_run_with_more_epochs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = run(tmp_path / "run")
    with caplog.at_level(logging.INFO, "pipeline"):
        second = run(tmp_path / "run", resume=True, max_epochs=6)
    assert list(first.rates) == [1, 2, 3]
    assert list(second.rates) == [4, 5, 6]
    assert second.rates[4] == pytest.approx(0.01 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * 2 / 5)).item()))
    assert second.rates[4] > second.rates[5] > second.rates[6] > 0
    assert "the learning rate follows the settings of now: 0.006545 in the next epoch, where the former had 0" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"first": 1},
            "resume: the training cases are not as in .*last_epoch=3.pt: set --fold and --manifest back, or",
        ),
        ({"count": 4}, "resume: the training cases are not as in"),
        ({"width": 8}, r"does not fit this experiment: network: 0.weight is \(4, 1, 3, 3\), expected \(8, 1, 3, 3\)"),
    ],
)
def test_other_data_or_another_network_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=message):
        run(tmp_path, resume=True, max_epochs=6, **changes)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    # The hints: set it back, or another folder.
    run(tmp_path, resume=True, max_epochs=4)
    run(tmp_path / "other", max_epochs=1, **changes)


def test_another_batch_size_and_seed_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path)
    run(tmp_path, resume=True, max_epochs=5, batch_size=3, seed=4)
    line = (
        "resume: seed is 4, was 3; batch_size is 3, was 2; epoch_length is 2, was 3: "
        "the losses are no longer those of the first run"
    )
    assert [record.getMessage() for record in caplog.records if record.getMessage().startswith("resume")] == [line]


def test_an_early_stop_is_lifted_as_the_line_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def never(trainer: SupervisedTrainer) -> SupervisedTrainer:
        trainer.evaluator.metric_cmp_fn = lambda current, best: False
        trainer.run()
        return trainer

    assert never(build(tmp_path, max_epochs=9, val_interval=1, patience=2)).state.epoch == 3
    with caplog.at_level(logging.INFO, "pipeline"):
        assert never(build(tmp_path, True, max_epochs=12, val_interval=1, patience=2)).state.epoch == 3
    assert "raise early_stop_patience to continue" in caplog.text
    assert never(build(tmp_path, True, max_epochs=12, val_interval=1, patience=4)).state.epoch == 5


def test_fewer_epochs_than_the_interval_leave_the_best_weights(tmp_path: Path) -> None:
    run(tmp_path, max_epochs=1, val_interval=5)
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.testing.assert_close(best, torch.load(tmp_path / "last_epoch=1.pt", weights_only=True)["network"])


def test_a_signal_leaves_what_it_left(tmp_path: Path) -> None:
    run(tmp_path, stop_after=1, val_interval=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_epoch=1.pt", "losses.txt", "run.json"]
    run(tmp_path, resume=True, val_interval=5)
    assert (tmp_path / "model.pt").is_file()
    assert torch.load(tmp_path / "last_epoch=3.pt", weights_only=True)["best"]["epoch"] == 3


def test_the_last_validation_changes_no_loss(tmp_path: Path) -> None:
    run(tmp_path / "often", max_epochs=3, val_interval=1)
    run(tmp_path / "end", max_epochs=3, val_interval=9)
    assert read_losses(tmp_path / "often/losses.txt") == read_losses(tmp_path / "end/losses.txt")


def test_a_validation_that_finds_nothing_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = build(tmp_path, max_epochs=1, learning_rate=0.0)
    torch.nn.init.constant_(trainer.parts["network"][3].bias, -100)
    trainer.run()
    lines = [record.getMessage() for record in caplog.records if "found nothing" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith(
        "validation of epoch 1: the network found nothing in any of the 2 cases, all their masks"
    )
    caplog.clear()
    run(tmp_path / "right", max_epochs=3, learning_rate=0.1)
    assert "found nothing" not in caplog.text
