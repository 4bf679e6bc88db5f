"""A BatchNorm for two processes on the CPU, in place of torch's ``SyncBatchNorm``, which needs GPUs.

It lets tests train the bundles' networks in two processes and compare them with one process.
"""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronise(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Replace each trainable BatchNorm, as `pipeline.parallel.synchronise_batch_norm` does on GPUs."""
    for name, child in network.named_children():
        setattr(network, name, synchronise(child, device))
    return GlooBatchNorm.replace(network) if type(network) in _PLAIN and network.training else network


class GlooBatchNorm(_BatchNorm):
    """Mean and biased variance of each channel over its N values in all processes.

    x_hat = (x - mean) / sqrt(variance + eps); the running variance gets the unbiased one, N / (N - 1) of it. Every
    process must call it equally often, forward and backward.
    """

    @classmethod
    def replace(cls, norm: nn.Module) -> GlooBatchNorm:
        """Make the counterpart of a BatchNorm, with its very parameters and buffers."""
        assert isinstance(norm, _BatchNorm)
        twin = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        for name, parameter in norm.named_parameters(recurse=False):
            setattr(twin, name, parameter)
        for name, buffer in norm.named_buffers(recurse=False):
            setattr(twin, name, buffer)
        return twin.train(norm.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # the name is torch's
        if not self.training:
            return super().forward(input)
        dims = [dim for dim in range(input.ndim) if dim != 1]
        sums = sum_over_processes(torch.cat([input.sum(dims), input.new_tensor([input.numel() / input.shape[1]])]))
        count = sums[-1].detach()
        shape = [1, -1, *(1 for _ in dims[1:])]
        mean = sums[:-1] / count
        centred = input - mean.view(shape)
        variance = sum_over_processes(centred.square().sum(dims)) / count
        self._update(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        output = centred * scale.view(shape)
        return output if self.bias is None else output + self.bias.view(shape)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        assert input.ndim >= 2

    @torch.no_grad()
    def _update(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Add up the tensors of all processes; the sum enters the loss of each, so its gradient is the sum of theirs."""
    return tensor if idist.get_world_size() == 1 else _SumOverProcesses.apply(tensor)


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
