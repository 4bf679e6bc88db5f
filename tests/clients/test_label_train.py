"""MONAI Label's training task for bundles: twice, with labels as Label stores them, then inference."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.clients.copies import digest, load_weights, same_weights
from tests.clients.images import fill_datastore
from tests.clients.stand_ins import import_label

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Trainings:
    """What two trainings left."""

    bundle: Path
    before: dict[str, str]
    after: dict[str, str]
    shipped: Weights
    first: Weights
    second: Weights
    starts: list[Weights]  #: weights with which each training began
    lines: list[list[str]]  #: log of each training


@pytest.fixture(scope="module")
def trainings(small: Path, data: dict[str, str], image: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    label = import_label()
    store = label.LocalDatastore(
        str(fill_datastore(small, data, tmp_path_factory.mktemp("studies"))),
        extensions=("*.nii.gz", "*.nii", "*.png", "*.jpg", "*.tif"),
    )
    before = digest(small)
    shipped = load_weights(small / "models/model.pt")
    task = label.BundleTrainTask(str(small), {})
    assert task.is_valid()
    results, starts, lines = [], [], []
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path_factory.getbasetemp())
            start, text = train(task, store)
        starts.append(start)
        lines.append(text)
        results.append(load_weights(small / "models/model.pt"))
    return Trainings(small, before, digest(small), shipped, *results, starts, lines)


def train(task: Any, store: Any) -> tuple[Weights, list[str]]:
    """Train one epoch; returns the weights after the first handlers, and the log."""
    from ignite.engine import Events
    from monai.engines import SupervisedTrainer

    found: Weights = {}
    lines: list[str] = []

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    run = SupervisedTrainer.run

    def watched(trainer: Any) -> None:
        # Label puts its loader of weights in front, so that it has run before.
        def note() -> None:
            found.update({key: value.clone() for key, value in trainer.network.state_dict().items()})

        trainer.add_event_handler(Events.EPOCH_STARTED(once=1), note)
        run(trainer)

    handler = Watching()
    logging.getLogger().addHandler(handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SupervisedTrainer, "run", watched)
            task({"model": "bundle", "device": "cpu", "max_epochs": 1, "val_split": 0.4, "tracking": "None"}, store)
    finally:
        logging.getLogger().removeHandler(handler)
    return found, lines


def test_training_begins_with_the_shipped_weights(trainings: Trainings) -> None:
    assert same_weights(trainings.starts[0], trainings.shipped)
    assert not same_weights(trainings.first, trainings.shipped), "something was learnt"


def test_the_second_goes_on_from_the_first(trainings: Trainings) -> None:
    assert same_weights(trainings.starts[1], trainings.first)
    assert not same_weights(trainings.second, trainings.first)


def test_shipped_weights_are_kept(trainings: Trainings) -> None:
    assert same_weights(load_weights(trainings.bundle / "models/model_shipped.pt"), trainings.shipped)


def test_nothing_else_in_the_bundle_changed(trainings: Trainings) -> None:
    ours = {"models/model.pt", "models/model_shipped.pt"}
    assert {name: text for name, text in trainings.after.items() if name not in ours} == {
        name: text for name, text in trainings.before.items() if name not in ours
    }


def test_inference_uses_what_was_trained(trainings: Trainings, image: Path) -> None:
    task = import_label().BundleInferTask(str(trainings.bundle), {})
    task({"image": str(image), "device": "cpu", "model": "bundle", "skip_writer": True, "model_filename": "model.pt"})
    ((network, _),) = task._networks.values()
    assert same_weights(network.state_dict(), trainings.second)
