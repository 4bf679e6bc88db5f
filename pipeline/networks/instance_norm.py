"""Instance normalisation with the faster of torch's kernels."""

import torch
import torch.nn.functional as F
from torch import nn


class FastInstanceNorm2d(nn.InstanceNorm2d):
    """`torch.nn.InstanceNorm2d` with other kernels: the same parameters and state dict.

    The output is the same, too, within 0.001 of a standard deviation.

    On a CPU torch copies a batch that is laid out channels last, normalises the copy and returns it in the other
    layout, so the next layer copies once more. Here, see `normalize_instances`, the layout stays.
    """

    def _apply_instance_norm(self, input: torch.Tensor) -> torch.Tensor:
        return normalize_instances(input, self.weight, self.bias, self.eps)


class FastInstanceNorm3d(nn.InstanceNorm3d):
    """`torch.nn.InstanceNorm3d` with other kernels, see `FastInstanceNorm2d`."""

    def _apply_instance_norm(self, input: torch.Tensor) -> torch.Tensor:
        return normalize_instances(input, self.weight, self.bias, self.eps)


# In channels last GroupNorm's kernel loses precision with a large mean: with one of so many standard deviations the
# error is up to 0.001 of one (batches of 256 x 256 and 64 x 64 x 64), and it grows with the square.
_SAFE = 4.0
_FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.InstanceNorm2d: FastInstanceNorm2d,
    nn.InstanceNorm3d: FastInstanceNorm3d,
}


def normalize_instances(
    batch: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> torch.Tensor:
    """Normalise every channel of every sample with its own mean and variance; the layout of the batch stays.

    It is GroupNorm with one channel a group, whose kernel is the fastest but for the backward pass in channels last:
    there BatchNorm, on one sample at a time, is faster, and more exact where means are large. Exports, compilers and
    other devices than CPUs get torch's own function.

    Args:
        batch: ``(B, C, *spatial)``.
        weight: scale of each channel ``(C,)``, or None.
        bias: shift of each channel ``(C,)``, or None.
        eps: is added to the variance.

    Raises:
        ValueError: there is one voxel a channel, which has no variance.

    Example:
        >>> batch = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> normalize_instances(batch, None, None, 0.0).flatten()
        tensor([-1.3416, -0.4472,  0.4472,  1.3416])
    """
    # A question of its own, so that the compiler of TorchScript leaves out the rest.
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        return F.instance_norm(batch, weight=weight, bias=bias, eps=eps)
    else:
        return _normalize(batch, weight, bias, eps)


def use_fast_instance_norm(network: nn.Module) -> nn.Module:
    """Replace every InstanceNorm of a finished network, in place, by the faster one; returns the network.

    It works for any network, as ``"network": {"_target_": "pipeline.networks.use_fast_instance_norm", "network":
    "$@network_def.to(@device, memory_format=torch.channels_last)"}``. Parameters and their names stay, so weights fit
    both ways, and an optimiser or an export of ``network_def`` does not notice. Layers with running statistics stay.

    Example:
        >>> network = use_fast_instance_norm(nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4)))
        >>> type(network[1]).__name__
        'FastInstanceNorm2d'
    """
    for layer in network.modules():
        fast = _FAST.get(type(layer))
        if fast and not layer.track_running_stats:
            layer.__class__ = fast  # as torch's lazy layers become what they stand for
    return network


def _normalize(batch: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float) -> torch.Tensor:
    if not _has_fast_kernel(batch):
        return F.instance_norm(batch, weight=weight, bias=bias, eps=eps)
    if not _is_channels_last(batch):
        return F.group_norm(batch, batch.shape[1], weight, bias, eps)
    number, channels = batch.shape[:2]
    size = batch[0, 0].numel()
    is_whole = batch.stride(0) == channels * size  # not a sample that was taken from a batch
    if is_whole and not (batch.requires_grad and torch.is_grad_enabled()):
        found, mean, rate = torch.native_group_norm(batch, weight, bias, number, channels, size, channels, eps)
        if float((mean * rate).detach().abs().max()) <= _SAFE:
            return found
    samples = batch.split(1)
    return torch.cat([F.batch_norm(sample, None, None, weight, bias, True, eps=eps) for sample in samples])


def _has_fast_kernel(batch: torch.Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined]
        return False
    return batch.device.type == "cpu" and batch[0, 0].numel() > 1


def _is_channels_last(batch: torch.Tensor) -> bool:
    layout = torch.channels_last if batch.ndim == 4 else torch.channels_last_3d
    return batch.is_contiguous(memory_format=layout) and not batch.is_contiguous()
