"""Validate after the last epoch, whatever the interval of validations."""

from dataclasses import dataclass

from ignite.engine import Engine, Events
from monai.engines import Evaluator


@dataclass(eq=False, repr=False)
class FinalValidation:
    """Validate after the last epoch unless `monai.handlers.ValidationHandler` has just done so.

    Without it, a training of fewer epochs than the interval ends without a best checkpoint, and the best of any other
    may miss the last epochs.

    Note:
        In ``train#handlers`` it comes after ``ValidationHandler`` and before `TrainingCheckpoint`.
    """

    evaluator: Evaluator  #: the engine that ``ValidationHandler`` runs

    def attach(self, engine: Engine) -> None:
        """Validate after the last epoch of ``engine``, the trainer."""
        engine.add_event_handler(Events.STARTED, self._forget)
        self.evaluator.add_event_handler(Events.COMPLETED, self._remember, engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _forget(self) -> None:
        self._validated = -1

    def _remember(self, evaluator: Engine, trainer: Engine) -> None:
        self._validated = trainer.state.epoch

    def __call__(self, trainer: Engine) -> None:
        """Validate if this is the last epoch and it has not been validated."""
        epoch = trainer.state.epoch
        if epoch == trainer.state.max_epochs and self._validated != epoch:
            self.evaluator.run(epoch)
