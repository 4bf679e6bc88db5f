"""Reseed all random generators at each epoch with seed + epoch."""

import random
from dataclasses import dataclass
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd

from pipeline.issues import InputError

_NUMPY_LIMIT = 2**32
_STRIDE = 1_000_003  # between processes: more epochs than a run has
# Between loader and augmentation: with one seed the first transform of both would draw the same numbers, so that, for
# example, where a crop lies would decide whether it is flipped.
_AUGMENTATION = 2_000_000_011


@dataclass(eq=False, repr=False)
class EpochSeed:
    """Reseed torch, numpy, random and the transforms of dataset and trainer when an epoch starts.

    A checkpoint has no state of random generators; that of loader workers cannot be saved at all. With this handler the
    state at the start of epoch ``n`` depends only on ``seed + n``, so a resumed run computes exactly the losses of an
    uninterrupted one, with any number of workers.

    Each of several processes draws different numbers, so that their samples are augmented differently. The order of
    the samples then comes from a ``DistributedSampler``, whose seed is the same in all processes.

    Raises:
        InputError: the loader has ``persistent_workers``, whose random states last longer than an epoch.

    Example:
        >>> loader = torch.utils.data.DataLoader([0, 1, 2], shuffle=True)
        >>> handler, engine = EpochSeed(seed=7, loader=loader), Engine(lambda engine, batch: batch.item())
        >>> handler.attach(engine)
        >>> order = []
        >>> _ = engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: order.append(engine.state.output))
        >>> for _ in range(2):
        ...     _ = engine.run(loader, max_epochs=1)
        >>> order[:3] == order[3:]
        True
    """

    seed: int  #: of the run
    loader: Any  #: the training loader. Its ``dataset`` holds the random transforms.

    def __post_init__(self) -> None:
        if getattr(self.loader, "persistent_workers", False):
            raise InputError(
                "persistent_workers is true: such workers keep their random state from epoch to epoch, "
                "so a resumed run would not be exact; set it to false"
            )

    def attach(self, engine: Engine) -> None:
        """Reseed at every epoch of ``engine``, the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Reseed everything with seed + epoch; the first of several processes as if it were alone."""
        seed = (self.seed + engine.state.epoch + idist.get_rank() * _STRIDE) % _NUMPY_LIMIT
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        for owner in (self.loader, getattr(self.loader, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator):
                generator.manual_seed(seed)
        set_rnd(getattr(self.loader, "dataset", None), seed)
        set_rnd(getattr(engine, "prepare_batch", None), (seed + _AUGMENTATION) % _NUMPY_LIMIT)
        self._restart_loader(engine)

    def _restart_loader(self, engine: Engine) -> None:
        # With another epoch_length ignite continues a half-read iterator, whose order depends on earlier epochs.
        loader = engine.state.dataloader
        if isinstance(loader, torch.utils.data.DataLoader) and engine.state.epoch_length != len(loader):
            engine.set_data(loader)
