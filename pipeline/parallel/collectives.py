"""Exchange of tensors between processes through which gradients flow.

torch's own, ``torch.distributed.nn.functional``, are deprecated, and the successors are private.

How the gradients add up. Each of W processes calls ``backward`` on a loss L_r of its own, and DistributedDataParallel
averages the gradients of the parameters. What is followed is therefore the gradient of (1/W) sum_r L_r.

* Where every L_r is the mean over a part of the batch, that is the mean over the batch.
* Where all processes compute the same L from the gathered batch, that is L, if the gradient that process r gets for
  its own predictions p_r is that of sum_s L_s, which is W dL/dp_r: W times what it computes itself.
* A sum over processes, as in BatchNorm's statistics, enters every L_s, so its gradient is the sum of theirs.
"""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist

__all__ = ["gather_batch", "sum_over_processes"]


def gather_batch(tensor: torch.Tensor) -> torch.Tensor:
    """Join the batches of all processes, in their order.

    The gradient is right if all processes compute the same from the result.

    Args:
        tensor: ``(B, ...)``, of the same shape and type in all processes.

    Returns:
        ``(W * B, ...)`` for W processes; the tensor itself if there is one process.

    Example:
        >>> gather_batch(torch.ones(2, 1)).shape
        torch.Size([2, 1])
    """
    if idist.get_world_size() == 1:
        return tensor
    if tensor.dtype == torch.bool:  # gloo has no bool
        return gather_batch(tensor.to(torch.uint8)).bool()
    return _GatherBatch.apply(tensor)


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Add up the tensors of all processes.

    Args:
        tensor: of the same shape and type in all processes.

    Example:
        >>> sum_over_processes(torch.ones(2)).tolist()
        [1.0, 1.0]
    """
    if idist.get_world_size() == 1:
        return tensor
    return _SumOverProcesses.apply(tensor)


class _GatherBatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        own = tensor.contiguous()
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own)
        ctx.size = len(own)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        first = dist.get_rank() * ctx.size
        return grads[0][first : first + ctx.size] * dist.get_world_size()


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total
