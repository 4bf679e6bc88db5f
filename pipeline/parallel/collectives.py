"""Gather tensors of several processes so that gradients flow through.

The functions of ``torch.distributed.nn.functional`` are deprecated, and their successors are private.

Gradients: each of W processes calls ``backward`` on its loss L_r, and DistributedDataParallel averages the gradients of
the parameters, so training follows the gradient of (1/W) sum_r L_r.

* If every L_r is the mean over a part of the batch, that is the mean over the batch.
* If all processes compute the same L from the gathered batch, that is L, provided that process r gets the gradient of
  sum_s L_s for its predictions p_r. This is W dL/dp_r: W times the gradient that it computes itself.
"""

from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist


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
