"""Validate a finished training that was never validated."""

from dataclasses import dataclass
from typing import Any

from ignite.engine import Engine
from monai.engines import Evaluator

from pipeline.handlers.run.batch_cases import has_no_cases
from pipeline.handlers.run.exits import OneLineHandler


@dataclass(eq=False, repr=False)
class ResumedValidation(OneLineHandler):
    """Validate once when a run is resumed of which no epoch is left and no validation is the best.

    So is a run that was stopped before its first validation, and that is resumed with ``max_epochs`` at the epochs that
    it has. Without this it would end without ``model.pt``. `FinalValidation` does the same after the last epoch.

    Note:
        In ``train#handlers`` it comes after `EarlyStop` and `TrainingCheckpoint`, which loads the weights and knows the
        best validation.
    """

    evaluator: Evaluator  #: the engine that `monai.handlers.ValidationHandler` runs

    def __call__(self, engine: Engine) -> None:
        """Validate if nothing else will."""
        state: Any = engine.state
        ends = engine.should_terminate or state.epoch >= (state.max_epochs or 0)
        validated = getattr(self.evaluator.state, "best_metric_epoch", -1) > 0
        if state.epoch and ends and not validated and not has_no_cases(self.evaluator):
            self.evaluator.run(state.epoch)
