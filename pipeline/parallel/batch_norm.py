"""BatchNorm with the statistics of the whole batch when it is spread over processes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.parallel.collectives import sum_over_processes

__all__ = ["GlooBatchNorm", "synchronise_batch_norm"]

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronise_batch_norm(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Replace every BatchNorm that trains by one that takes mean and variance over the batches of all processes.

    On GPUs that is torch's ``SyncBatchNorm``, which refuses tensors on the CPU; there it is `GlooBatchNorm`.
    Parameters, buffers and the keys of the state dict stay what they are. A layer in evaluation mode is frozen, uses
    no statistics of the batch and stays as it is; so does a subclass, whose ways are unknown.

    Args:
        network: changed in place, unless it is a BatchNorm itself.
        device: where it runs.

    Returns:
        The network.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.BatchNorm2d(2).eval())
        >>> [type(layer).__name__ for layer in synchronise_batch_norm(network, "cpu")]
        ['Conv2d', 'GlooBatchNorm', 'BatchNorm2d']
    """
    for name, child in network.named_children():
        setattr(network, name, synchronise_batch_norm(child, device))
    if type(network) not in _PLAIN or not network.training:
        return network
    if torch.device(device).type == "cpu":
        return GlooBatchNorm.replace(network)
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


class GlooBatchNorm(_BatchNorm):
    """Torch's ``SyncBatchNorm`` for the CPU: the arguments and the state dict are those of BatchNorm.

    In training, mean and biased variance of each channel are taken over all N values of that channel in all processes,
    x_hat = (x - mean) / sqrt(variance + eps); the running variance gets the unbiased one, N / (N - 1) of it.

    Note:
        Every process must call it equally often, forward and backward.
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
        """Normalise ``(B, C, ...)``.

        Raises:
            ValueError: a channel has a single value in all processes together, which has no variance.
        """
        if not self.training:
            return super().forward(input)
        dims = [dim for dim in range(input.ndim) if dim != 1]
        sums = sum_over_processes(torch.cat([input.sum(dims), input.new_tensor([input.numel() / input.shape[1]])]))
        count = sums[-1].detach()
        if count <= 1:
            raise ValueError(f"expected more than 1 value per channel when training, got {tuple(input.shape)}")
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
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions (B, C, ...), got {tuple(input.shape)}")

    @torch.no_grad()
    def _update(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)
