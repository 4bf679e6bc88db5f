"""Find and read the checkpoints of an output folder."""

import logging
import math
import re
from pathlib import Path
from typing import Any

from ignite.engine import Engine

from pipeline.weights import read_plain

_LOGGER = logging.getLogger(__name__)

#: Regular expression of the names of *last* checkpoints: a new name per epoch, so that a complete file always exists
LAST_PATTERN = r"last_epoch=(\d+)\.pt"


def improves(evaluator: Engine, metric: float, best: float | None) -> bool:
    """Return whether a metric is better than the best so far, by the ``metric_cmp_fn`` of MONAI's evaluators."""
    compare = getattr(evaluator, "metric_cmp_fn", float.__gt__)
    return math.isfinite(metric) and (best is None or bool(compare(metric, best)))


def name_last(epoch: int) -> str:
    """Return the name of an epoch's checkpoint.

    Example:
        >>> name_last(7)
        'last_epoch=7.pt'
    """
    return f"last_epoch={epoch}.pt"


def find_last(folder: Path) -> list[Path]:
    """Find the *last* checkpoints of a folder, newest epoch first."""
    found = {path: re.fullmatch(LAST_PATTERN, path.name) for path in folder.glob("last_epoch=*.pt")}
    epochs = {path: int(match.group(1)) for path, match in found.items() if match}
    return sorted(epochs, key=lambda path: epochs[path], reverse=True)


def read_newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Read the newest *last* checkpoint that can be loaded, with a warning for each that cannot.

    Args:
        folder: output folder of a run.

    Returns:
        The file and its content on the CPU; None if no file can be loaded.
    """
    for path in find_last(folder):
        try:
            content = read_plain(path)
            if not isinstance(content, dict) or "trainer" not in content:
                raise ValueError("has no training state")
        except ValueError as error:
            _LOGGER.warning("skipped %s: it %s", path, error)
            continue
        return path, content
    return None
