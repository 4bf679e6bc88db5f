"""torch.compile for the network of a training."""

import logging
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_LOGGER = logging.getLogger(__name__)


class CompiledNetwork:
    """Let torch.compile make faster code of a network, in place: parameters, their names and checkpoints stay.

    The code is made when the network first sees a batch, for training and for validation apart, and for every shape
    anew, so the first iterations take minutes. It can pay in a long training on a GPU. Results differ by rounding.

    Args:
        network: the network of the trainer. Its ``forward`` is replaced.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Compile at the first batch of ``engine``, the trainer, and say so when it starts."""
        network = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        compiled = torch.compile(network.forward)

        def forward(batch: torch.Tensor, *rest: Any) -> Any:
            if not isinstance(batch, MetaTensor):
                return compiled(batch, *rest)
            result = compiled(batch.as_tensor(), *rest)  # the compiler knows no subclass that keeps meta data
            return MetaTensor(result).copy_meta_from(batch) if isinstance(result, torch.Tensor) else result

        network.forward = forward
        engine.add_event_handler(Events.STARTED, self.announce)

    def announce(self) -> None:
        """Say why the first iterations take long."""
        if idist.get_rank() == 0:
            _LOGGER.info(
                "torch.compile: the first iterations and the first validation make the code, which can take minutes; "
                "it stays for the rest of this run"
            )
