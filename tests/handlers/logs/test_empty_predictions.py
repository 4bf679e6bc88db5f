"""One line when nothing was found in any case, and none when that is right."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from pipeline.handlers import EmptyPredictions, NetworkCheckpointLoader, TrainingRun
from pipeline.handlers.logs.empty_predictions import has_foreground

NOTHING, SOMETHING = torch.zeros(1, 4, 4), torch.eye(4)[None]


def evaluate(cases: list[dict[str, Any]], caplog: pytest.LogCaptureFixture, batch: int = 1) -> list[str]:
    batches = [cases[start : start + batch] for start in range(0, len(cases), batch)]
    engine = Engine(lambda engine, items: items)
    EmptyPredictions("look").attach(engine)
    with caplog.at_level(logging.WARNING, "pipeline"):
        engine.run(batches)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("label", [{}, {"label": SOMETHING}])
def test_nothing_was_found(label: dict[str, Any], batch: int, caplog: pytest.LogCaptureFixture) -> None:
    expected = "the network found nothing in any of the 3 cases, all their masks are empty: look"
    assert evaluate([{"pred": NOTHING, **label}] * 3, caplog, batch) == [expected]


def test_the_only_case(caplog: pytest.LogCaptureFixture) -> None:
    lines = evaluate([{"pred": NOTHING}], caplog)
    assert lines == ["the network found nothing in the only case, its mask is empty: look"]


@pytest.mark.parametrize(
    "cases",
    [
        [{"pred": NOTHING}, {"pred": SOMETHING}],
        [{"pred": NOTHING, "label": NOTHING}] * 2,
        [{"pred": SOMETHING, "label": NOTHING}],
        [{"image": NOTHING}],
    ],
)
def test_no_line_when_it_is_right(cases: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    assert evaluate(cases, caplog) == []


def test_one_truth_that_was_missed_is_enough(caplog: pytest.LogCaptureFixture) -> None:
    cases = [{"pred": NOTHING, "label": NOTHING}, {"pred": NOTHING, "label": SOMETHING}]
    assert len(evaluate(cases, caplog)) == 1


def test_each_run_counts_anew(caplog: pytest.LogCaptureFixture) -> None:
    trainer = Engine(lambda engine, batch: None)
    predictions = [NOTHING, SOMETHING, NOTHING]
    evaluator = Engine(lambda engine, batch: [{"pred": predictions[batch]}])
    EmptyPredictions("look", trainer).attach(evaluator)
    for epoch in range(3):
        trainer.state.epoch = epoch + 1
        evaluator.run([epoch])
    lines = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert lines == ["validation of epoch 1", "validation of epoch 3"]


def test_the_line_names_the_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = torch.nn.Linear(1, 1)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    engine = Engine(lambda engine, batch: [{"pred": NOTHING}])
    NetworkCheckpointLoader(tmp_path / "model.pt", network).attach(engine)
    engine.run([0, 0])
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert record.getMessage() == (
        "the network found nothing in any of the 2 cases, all their masks are empty: "
        f"was {tmp_path / 'model.pt'} trained long enough, and on images like these?"
    )


@pytest.mark.parametrize(("budget", "named"), [(None, "--max_epochs"), (5, "--budget_minutes")])
def test_a_training_names_the_setting_that_gives_more_steps(tmp_path: Path, budget: float | None, named: str) -> None:
    loader = torch.utils.data.DataLoader([0])
    to_save = {"network": torch.nn.Linear(1, 1)}
    run = TrainingRun(tmp_path, loader, Engine(lambda engine, batch: None), to_save, budget_minutes=budget)
    assert f"more steps ({named}, a smaller --batch_size)" in run.advice


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (torch.stack([torch.ones(2, 2), torch.zeros(2, 2)]), False),  # one-hot, all background
        (torch.stack([torch.zeros(2, 2), torch.ones(2, 2)]), True),
        (torch.stack([torch.ones(2, 2), torch.ones(2, 2)]), True),  # channels that overlap
        (torch.zeros(3, 2, 2), False),  # channels without a background
        (torch.zeros(1, 2, 2, 2), False),
        (torch.full((1, 2, 2), 7, dtype=torch.int32), True),
        (torch.zeros(1, 2, 2, dtype=torch.bool), False),
    ],
)
def test_foreground(mask: torch.Tensor, expected: bool) -> None:
    assert has_foreground(mask) is expected
