"""A network whose copies in all processes train as one."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import ignite.distributed as idist
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.flags import read_flag
from pipeline.parallel.batch_norm import synchronise_batch_norm

# Renamed in torch 2.13; the old name warns there.
_NAMES = set(inspect.signature(DistributedDataParallel).parameters)
_NO_BUFFERS: dict[str, Any] = {
    next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in _NAMES): False
}

__all__ = ["unwrap_network", "wrap_network"]


def wrap_network(
    network: nn.Module, device: torch.device | str, find_unused_parameters: bool | str = False
) -> nn.Module:
    """Wrap a network in torch's DistributedDataParallel, its BatchNorm synchronised.

    Buffers are not sent around before each forward pass, as is torch's default: the running statistics are equal in all
    processes anyway, and in validation, where one process may have more cases than another, waiting would never end.

    Args:
        network: on ``device``.
        device: of this process.
        find_unused_parameters: for networks of which a forward pass leaves out parameters that train.

    Returns:
        The wrapped network, which passes on what it lacks to the network in it; the network itself if there is only one
        process.
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


def unwrap_network(item: Any) -> Any:
    """Return the network in a parallel wrapper, and anything else as it is.

    Example:
        >>> network = nn.Conv2d(1, 1, 1)
        >>> unwrap_network(nn.DataParallel(network)) is network, unwrap_network(7)
        (True, 7)
    """
    return item.module if isinstance(item, (nn.DataParallel, DistributedDataParallel)) else item


class _Parallel(DistributedDataParallel):
    """DistributedDataParallel with the network's own attributes, such as its encoder."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)
