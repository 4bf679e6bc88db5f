"""A loss of the whole batch when it is spread over processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from torch import nn

from pipeline.issues import InputError
from pipeline.parallel.agreement import collect, exit_together
from pipeline.parallel.collectives import gather_batch

__all__ = ["GlobalBatchLoss"]

_MAX_DIMS = 8


class GlobalBatchLoss(nn.Module):
    """Compute another loss on the predictions and labels of all processes together.

    A mean over samples is the same whether it is taken over the batch or over parts of equal size and then over the
    parts. A Dice loss with ``batch=True`` is not, nor is a mean weighted by the labels: they need the whole batch.
    Value and gradients are then those of one process with that batch, see `pipeline.parallel.collectives`.

    Args:
        loss: called with predictions and labels.

    Raises:
        InputError: when it is called: the processes have batches of different shapes.

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
            pred: ``(B, C, *spatial)``, or a list of such tensors, of each of which the whole batch is gathered.
            label: the same.
        """
        if idist.get_world_size() > 1:
            _require_equal_shapes([pred, label])
            pred, label = _gather(pred), _gather(label)
        return self.loss(pred, label)


def _gather(item: Any) -> Any:
    if isinstance(item, torch.Tensor):
        return gather_batch(item.as_subclass(torch.Tensor))  # meta data would be one process's only
    if isinstance(item, Mapping):
        return {key: _gather(value) for key, value in item.items()}
    if isinstance(item, Sequence) and not isinstance(item, str):
        return [_gather(value) for value in item]
    return item


def _require_equal_shapes(items: Sequence[Any]) -> None:
    tensors = list(_list_tensors(items))
    shapes = torch.full((len(tensors), _MAX_DIMS), -1, dtype=torch.long)
    for row, tensor in zip(shapes, tensors, strict=True):
        row[: tensor.ndim] = torch.tensor(tensor.shape)
    largest, smallest = torch.as_tensor(idist.all_reduce(torch.stack([shapes, -shapes]), "MAX"))
    if not torch.equal(largest, -smallest):
        found = collect(", ".join(str(tuple(tensor.shape)) for tensor in tensors))
        with exit_together():
            raise InputError(
                f"the batches of the processes differ in shape, {' and '.join(dict.fromkeys(found))}, but the loss is "
                "one of the whole batch: crop, pad or resize the images of training to one size"
            )


def _list_tensors(item: Any) -> Iterator[torch.Tensor]:
    if isinstance(item, torch.Tensor):
        yield item
    elif isinstance(item, Mapping):
        yield from _list_tensors(list(item.values()))
    elif isinstance(item, Sequence) and not isinstance(item, str):
        for value in item:
            yield from _list_tensors(value)
