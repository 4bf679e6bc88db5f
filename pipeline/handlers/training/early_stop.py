"""Early stopping that keeps its count when a training is resumed."""

import logging
from dataclasses import dataclass
from typing import Any

from ignite.engine import Engine, Events

from pipeline.handlers.checkpoints.checkpoint_files import improves
from pipeline.parallel.agreement import agree_on

_LOGGER = logging.getLogger(__name__)
_KEYS = ("early_stop_best", "early_stop_count")


@dataclass(eq=False, repr=False)
class EarlyStop:
    """Stop the training when the key metric has not improved for ``patience`` validations.

    The early stopping of ignite and MONAI restarts its count in a resumed run. Here the count is part of the trainer's
    state (``state_dict_user_keys``), so every checkpoint contains it.

    A trainer that is run again in the same process is meant to go on: the count starts again, and the best metric
    stays. So the rounds of federated learning are ended by the server, not by the patience of one site.

    Raises:
        ValueError: ``patience`` is below 1 or ``min_delta`` negative.

    Note:
        In ``train#handlers`` it comes after `TrainingCheckpoint`. Then a resumed run that had stopped early stops at
        once, unless ``patience`` was raised.
    """

    #: the engine that `monai.handlers.ValidationHandler` runs. Its ``metric_cmp_fn`` compares metrics.
    evaluator: Engine
    key_metric: str = "val_mean_dice"  #: name in ``evaluator.state.metrics``
    patience: int = 20  #: validations without improvement after which the training stops, at least 1
    min_delta: float = 0.0  #: smaller changes of the metric do not count as an improvement

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1, got {self.patience}")
        if self.min_delta < 0:
            raise ValueError(f"min_delta must not be negative, got {self.min_delta}")

    def attach(self, engine: Engine) -> None:
        """Watch the validations of ``engine``, the trainer."""
        state: Any = engine.state
        state.early_stop_best, state.early_stop_count = None, 0
        engine.state_dict_user_keys.extend(_KEYS)
        self._begun = False
        engine.add_event_handler(Events.STARTED, self.start)
        self.evaluator.add_event_handler(Events.COMPLETED, self.count, engine)

    def start(self, trainer: Engine) -> None:
        """Stop a resumed training that had stopped early; count anew in a trainer that is run again."""
        state: Any = trainer.state
        if self._begun:
            state.early_stop_count = 0
            if trainer.state.epoch == 0:
                state.early_stop_best = None
        self._begun = True
        self.stop_if_due(trainer)

    def count(self, evaluator: Engine, trainer: Engine) -> None:
        """Count a validation; NaN is not an improvement."""
        metric = float(evaluator.state.metrics[self.key_metric])
        state: Any = trainer.state
        best = state.early_stop_best
        if improves(self.evaluator, metric, best) and (best is None or abs(metric - best) > self.min_delta):
            state.early_stop_best, state.early_stop_count = metric, 0
        else:
            state.early_stop_count += 1
        self.stop_if_due(trainer)

    def stop_if_due(self, trainer: Engine) -> None:
        """Stop the training if the patience is exhausted; the first of several processes decides."""
        state: Any = trainer.state
        if agree_on(state.early_stop_count >= self.patience):
            text = "stopped early: %s has not improved on %s for %d validations; raise early_stop_patience to continue"
            _LOGGER.info(text, self.key_metric, state.early_stop_best, state.early_stop_count)
            trainer.terminate()
