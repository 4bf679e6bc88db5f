"""Say when a network found nothing in any case, which otherwise looks like a score of 0 or a folder of black masks."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

_LOGGER = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class EmptyPredictions:
    """Warn in one line when the masks of all cases of an evaluation are empty although there was something to find.

    Cases without a label count as having something to find. `TrainingRun` attaches it to the validation,
    `NetworkCheckpointLoader` to evaluation and inference.

    Example:
        >>> engine = Engine(lambda engine, batch: [{"pred": torch.zeros(1, 2, 2), "label": torch.ones(1, 2, 2)}])
        >>> handler = EmptyPredictions("was it trained long enough?")
        >>> handler.attach(engine)
        >>> _ = engine.run([0, 1])
        >>> handler.describe()
        'the network found nothing in any of the 2 cases, all their masks are empty: was it trained long enough?'
    """

    advice: str  #: end of the line: what to do
    trainer: Engine | None = None  #: the engine whose validations these are; its epoch is named

    def attach(self, engine: Engine) -> None:
        """Watch every run of ``engine``, an evaluator."""
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def begin(self) -> None:
        """Start to count: cases, cases with a prediction, cases with something to find."""
        self._counts = torch.zeros(3, dtype=torch.int64)

    def add(self, engine: Engine) -> None:
        """Count the cases of the last batch."""
        output: Any = engine.state.output
        for item in output if isinstance(output, (list, tuple)) else [output]:
            if isinstance(item, Mapping) and isinstance(item.get("pred"), torch.Tensor):
                label = item.get("label")
                findable = not isinstance(label, torch.Tensor) or has_foreground(label)
                self._counts += torch.tensor([1, has_foreground(item["pred"]), findable])

    def finish(self, engine: Engine) -> None:
        """Warn if all processes together have found nothing."""
        self._counts = torch.as_tensor(idist.all_reduce(self._counts.to(idist.device()))).cpu()
        _, found, findable = self._counts.tolist()
        if findable and not found and idist.get_rank() == 0:
            _LOGGER.warning(self.describe())

    def describe(self) -> str:
        """Return the line."""
        cases = int(self._counts[0])
        where = "" if self.trainer is None else f"validation of epoch {self.trainer.state.epoch}: "
        among = "the only case, its mask is" if cases == 1 else f"any of the {cases} cases, all their masks are"
        return f"{where}the network found nothing in {among} empty: {self.advice}"


def has_foreground(mask: torch.Tensor) -> bool:
    """Return whether a mask has any foreground.

    Args:
        mask: ``(1, *spatial)`` of labels or instances, or ``(K, *spatial)`` one-hot with the background first; channels
            that overlap or leave a pixel out have no background.

    Example:
        >>> has_foreground(torch.tensor([[1.0, 1.0], [0.0, 0.0]])), has_foreground(torch.tensor([[0.0, 2.0]]))
        (False, True)
    """
    if len(mask) > 1 and bool((mask.sum(dim=0) == 1).all()):
        mask = mask[1:]
    return bool((mask != 0).any())
