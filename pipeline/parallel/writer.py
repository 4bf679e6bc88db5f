"""Write TensorBoard events in the first process only."""

from collections.abc import Callable
from typing import Any

from pipeline.parallel.launch import is_main


def open_summary_writer(log_dir: str) -> Any:
    """Open TensorBoard's ``SummaryWriter`` in the first process, and one that discards everything in the others.

    Each ``SummaryWriter`` has a separate event file, and TensorBoard would mix the curves of all processes.

    Args:
        log_dir: folder of the events.
    """
    if not is_main():
        return _SilentWriter()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(log_dir)


class _SilentWriter:
    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return _ignore


def _ignore(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""
