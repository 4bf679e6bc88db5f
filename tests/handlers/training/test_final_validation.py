"""The last epoch is validated, once."""

from typing import Any

import pytest
from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler
from tiny_training import build_evaluator, build_network

from pipeline.handlers import FinalValidation


class Run:
    """A trainer that does nothing, and the epochs that were validated."""

    def __init__(self, max_epochs: int, interval: int, start: int = 0) -> None:
        self.evaluator = build_evaluator(build_network())
        self.trainer = Engine(lambda engine, batch: None)
        ValidationHandler(interval, self.evaluator).attach(self.trainer)
        FinalValidation(self.evaluator).attach(self.trainer)
        self.validated: list[int] = []
        self.evaluator.add_event_handler(Events.COMPLETED, lambda: self.validated.append(self.trainer.state.epoch))
        self.trainer.load_state_dict({"epoch": start, "max_epochs": max_epochs, "epoch_length": 2})


@pytest.mark.parametrize(
    ("max_epochs", "interval", "start", "expected"),
    [
        (1, 5, 0, [1]),
        (4, 5, 0, [4]),
        (5, 5, 0, [5]),
        (6, 5, 0, [5, 6]),
        (4, 1, 0, [1, 2, 3, 4]),
        (7, 3, 4, [6, 7]),
        (4, 5, 3, [4]),
    ],
)
def test_the_last_epoch_is_validated_once(max_epochs: int, interval: int, start: int, expected: list[int]) -> None:
    run = Run(max_epochs, interval, start)
    run.trainer.run([0, 0])
    assert run.validated == expected


def test_a_run_that_is_stopped_is_not_validated() -> None:
    run = Run(4, 5)

    def stop(engine: Engine) -> Any:
        raise SystemExit(143)

    run.trainer.add_event_handler(Events.EPOCH_STARTED(once=4), stop)
    with pytest.raises(SystemExit):
        run.trainer.run([0, 0])
    assert run.validated == []


def test_a_trainer_that_runs_again_validates_again() -> None:
    run = Run(1, 5)
    run.trainer.run([0, 0])
    run.trainer.run([0, 0], max_epochs=1)
    assert run.validated == [1, 1]
