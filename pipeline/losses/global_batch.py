"""A loss of the whole batch if several processes share it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from torch import nn

from pipeline.issues import InputError
from pipeline.parallel.agreement import collect, exit_together
from pipeline.parallel.collectives import gather_batch

_MAX_DIMS = 8


class GlobalBatchLoss(nn.Module):
    """Compute another loss on the predictions and labels of all processes together.

    A mean over samples does not change if it is taken over parts of equal size first. A Dice loss with ``batch=True``
    and a mean weighted by the labels do change: they need the whole batch. Value and gradients are then those of one
    process with that batch, see `pipeline.parallel.collectives`.

    Args:
        loss: called with predictions and labels.

    Raises:
        InputError: when called: the processes have batches of different shapes.

    Example:
        >>> from monai.losses import DiceLoss
        >>> loss = GlobalBatchLoss(DiceLoss(batch=True))
        >>> loss(torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 4)).item()
        0.0
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, pred: Any, label: Any) -> torch.Tensor:
        """Return the loss, the same in all processes.

        Args:
            pred: ``(B, C, *spatial)``, or a list or dictionary of such tensors.
            label: as ``pred``.
        """
        if idist.get_world_size() > 1:
            tensors: list[torch.Tensor] = []
            _map_tensors([pred, label], tensors.append)
            _require_equal_shapes(tensors)
            # Without meta data, which would be those of one process.
            pred, label = _map_tensors([pred, label], lambda item: gather_batch(item.as_subclass(torch.Tensor)))
        return self.loss(pred, label)


def _map_tensors(item: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    if isinstance(item, torch.Tensor):
        return function(item)
    if isinstance(item, Mapping):
        return {key: _map_tensors(value, function) for key, value in item.items()}
    if isinstance(item, Sequence) and not isinstance(item, str):
        return [_map_tensors(value, function) for value in item]
    return item


def _require_equal_shapes(tensors: Sequence[torch.Tensor]) -> None:
    shapes = torch.full((len(tensors), _MAX_DIMS), -1, dtype=torch.long)
    for row, tensor in zip(shapes, tensors, strict=True):
        row[: tensor.ndim] = torch.tensor(tensor.shape)
    largest, smallest = torch.as_tensor(idist.all_reduce(torch.stack([shapes, -shapes]), "MAX"))
    if not torch.equal(largest, -smallest):
        found = collect(", ".join(str(tuple(tensor.shape)) for tensor in tensors))
        with exit_together():
            raise InputError(
                f"the batches of the processes differ in shape, {' and '.join(dict.fromkeys(found))}, but the loss "
                "needs the whole batch: crop, pad or resize the images of training to one size"
            )
