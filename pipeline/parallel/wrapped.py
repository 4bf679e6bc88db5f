"""Wrap a network so that its copies in all processes train as one."""

import inspect
import warnings
from typing import Any

import ignite.distributed as idist
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.flags import read_flag
from pipeline.issues import InputError

# The argument was renamed in torch 2.13; the old name warns there.
_NAMES = set(inspect.signature(DistributedDataParallel).parameters)
_NO_BUFFERS: dict[str, Any] = {
    next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in _NAMES): False
}
_PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def wrap_network(
    network: nn.Module, device: torch.device | str, find_unused_parameters: bool | str = False
) -> nn.Module:
    """Wrap a network in torch's DistributedDataParallel, its BatchNorm synchronised.

    Buffers are not broadcast before each forward pass, as is torch's default: the running statistics are equal in all
    processes anyway, and in validation a process with more cases than the others would wait for them forever.

    Args:
        network: on ``device``.
        device: of this process.
        find_unused_parameters: for networks with trainable parameters that a forward pass may leave out.

    Returns:
        The wrapped network, whose missing attributes are those of the network in it; the network itself if there is
        only one process.

    Raises:
        InputError: as `synchronise_batch_norm`.
    """
    unused = read_flag(find_unused_parameters, "find_unused_parameters")
    if idist.get_world_size() == 1:
        return network
    where = torch.device(device)
    # Gradients of 1x1 kernels are laid out either way after a channels-last batch; that costs one small copy.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    return _Parallel(
        synchronise_batch_norm(network, where),
        device_ids=None if where.type == "cpu" else [where],
        find_unused_parameters=unused,
        **_NO_BUFFERS,
    )


def synchronise_batch_norm(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Replace each trainable BatchNorm by torch's ``SyncBatchNorm``, whose statistics are those of all processes.

    A layer in evaluation mode is frozen and stays as it is, and so does a subclass of BatchNorm. Parameters, buffers
    and the keys of the state dict do not change.

    Args:
        network: changed in place, unless it is a BatchNorm itself.
        device: of this process.

    Returns:
        The network.

    Raises:
        InputError: the device is a CPU, where torch has no ``SyncBatchNorm``, and a BatchNorm trains.

    Example:
        >>> network = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2).eval())
        >>> [type(layer).__name__ for layer in synchronise_batch_norm(network, "cuda")]
        ['SyncBatchNorm', 'BatchNorm2d']
    """
    for name, child in network.named_children():
        setattr(network, name, synchronise_batch_norm(child, device))
    if type(network) not in _PLAIN_NORMS or not network.training:
        return network
    if torch.device(device).type == "cpu":
        raise InputError(
            "several processes on the CPU cannot train this network: torch synchronises BatchNorm on GPUs only, and "
            "without that each process has other statistics; start one process, without torchrun"
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def unwrap_network(item: Any) -> Any:
    """Return the network in a parallel wrapper; anything else is returned unchanged.

    Example:
        >>> network = nn.Conv2d(1, 1, 1)
        >>> unwrap_network(nn.DataParallel(network)) is network, unwrap_network(7)
        (True, 7)
    """
    return item.module if isinstance(item, (nn.DataParallel, DistributedDataParallel)) else item


class _Parallel(DistributedDataParallel):
    """DistributedDataParallel with the attributes of the network in it, such as its encoder."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
