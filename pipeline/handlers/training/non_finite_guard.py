"""Stop a training when its loss is NaN or infinite."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from ignite.engine import Engine, Events

from pipeline.handlers.checkpoints.checkpoint_files import find_last
from pipeline.handlers.run.batch_cases import list_case_ids
from pipeline.handlers.run.exits import OneLineHandler
from pipeline.issues import InputError
from pipeline.parallel.agreement import any_process, collect, exit_together


@dataclass(eq=False, repr=False)
class NonFiniteGuard(OneLineHandler):
    """Stop the run at the first loss that is NaN or infinite, and name the cases of that batch.

    Of several processes all stop; the cases are those of the processes with such a loss. The exit code is 1 and nothing
    is saved afterwards, so the best and last checkpoints stay as they are. Steps that the gradient scaler of mixed
    precision skips have a finite loss.

    Raises:
        InputError: in training, at the end of the iteration with the non-finite loss.

    Example:
        >>> engine = Engine(lambda engine, batch: {"loss": batch["image"].log().mean()})
        >>> NonFiniteGuard().attach(engine)
        >>> engine.run([{"image": torch.ones(1), "case_id": ["a"]}, {"image": -torch.ones(1), "case_id": ["b"]}])
        Traceback (most recent call last):
        pipeline.issues.InputError: loss is nan in epoch 1, iteration 2: cases b; last finite loss 0; ...
    """

    event: ClassVar[Events] = Events.ITERATION_COMPLETED

    output_dir: str | Path | None = None  #: folder of the checkpoints; if given, the message names the last good one
    _last_finite: float | None = field(default=None, init=False)

    def __call__(self, engine: Engine) -> None:
        """Check the loss of the last iteration."""
        loss = read_loss(engine.state.output)
        if not any_process(loss is not None and not math.isfinite(loss)):
            self._last_finite = self._last_finite if loss is None else loss
            return
        found = collect((loss, list_case_ids(engine.state.batch)))
        with exit_together():
            raise InputError("; ".join(self._describe(engine, found)))

    def _describe(self, engine: Engine, found: list[tuple[float | None, list[str]]]) -> Iterable[str]:
        bad = [(loss, cases) for loss, cases in found if loss is not None and not math.isfinite(loss)]
        cases = ", ".join(dict.fromkeys(case for _, cases in bad for case in cases)) or "unknown"
        yield f"loss is {bad[0][0]} in epoch {engine.state.epoch}, iteration {engine.state.iteration}: cases {cases}"
        yield f"last finite loss {'none' if self._last_finite is None else f'{self._last_finite:.4g}'}"
        optimizer = getattr(engine, "optimizer", None)
        if optimizer is not None:
            yield f"learning rate {optimizer.param_groups[0]['lr']:.3g}"
        newest = find_last(Path(self.output_dir)) if self.output_dir is not None else []
        if newest:
            yield f"last checkpoint {newest[0]}"
        yield "try `python -m pipeline dataset check --deep`, a lower learning_rate, or amp false"


def read_loss(output: Any) -> float | None:
    """Return the loss in a trainer's output, None if there is none.

    Args:
        output: MONAI's dict or decollated list of dicts, or the loss itself.

    Example:
        >>> read_loss([{"loss": torch.tensor(0.5)}, {"loss": torch.tensor(0.5)}])
        0.5
    """
    if isinstance(output, (list, tuple)):  # decollated: the same loss in every item
        output = output[0] if output else None
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if isinstance(loss, torch.Tensor):
        return loss.detach().float().mean().item()
    return float(loss) if isinstance(loss, (int, float)) else None
