"""Remember which cases the workers of a loader were given, because a worker that was killed cannot say it.

torch keeps the numbers of the batches that are on their way, but not what is in them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ignite.engine import Engine
from torch.utils.data import BatchSampler, DataLoader

from pipeline.handlers.run.batch_cases import name_item


class _RecordedSampler:
    """A sampler that keeps the order of its last pass."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.order: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        self.order = order = []
        for index in self.sampler:
            order.append(index)
            yield index

    def __len__(self) -> int:
        return len(self.sampler)


def record_order(engine: Engine) -> None:
    """Record the order in which the engine's loader gives cases to its workers; the order stays as it is."""
    loader = engine.state.dataloader
    if isinstance(loader, DataLoader) and loader.num_workers and isinstance(loader.batch_sampler, BatchSampler):
        batches: Any = loader.batch_sampler
        if not isinstance(batches.sampler, _RecordedSampler):
            batches.sampler = _RecordedSampler(batches.sampler)


def find_lost_cases(engine: Engine, text: str) -> list[str]:
    """Find the cases that a worker had not delivered when it was lost: what it loaded, and what it had yet to send.

    Args:
        engine: the engine that read from the loader.
        text: names the worker by its process number.

    Returns:
        The ids; nothing if they are unknown.
    """
    loader: Any = engine.state.dataloader
    recorded = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
    iterator = getattr(engine, "_dataloader_iter", None)
    workers = getattr(iterator, "_workers", [])
    named = [number for number, worker in enumerate(workers) if re.search(rf"\b{worker.pid}\b", text)]
    lost = named or [number for number, worker in enumerate(workers) if not worker.is_alive()]
    tasks = getattr(iterator, "_task_info", {})
    batches = sorted(batch for batch, info in tasks.items() if len(info) == 1 and info[0] in lost)
    if not isinstance(recorded, _RecordedSampler):
        return []
    size = loader.batch_size
    indices = [index for batch in batches for index in recorded.order[batch * size : (batch + 1) * size]]
    items = [loader.dataset.data[index] for index in indices]
    names = [name_item(item) for item in items if isinstance(item, Mapping)]
    return [name for name in names if name is not None]
