"""The names of checkpoints in an output folder, and how to read them."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch

_LOGGER = logging.getLogger(__name__)

#: Names of the *last* series, as a regular expression: a new name every epoch, so that one whole file always exists.
LAST_PATTERN = r"last_epoch=(\d+)\.pt"


def name_last(epoch: int) -> str:
    """Name the checkpoint that is written after an epoch.

    Example:
        >>> name_last(7)
        'last_epoch=7.pt'
    """
    return f"last_epoch={epoch}.pt"


def find_last(folder: Path) -> list[Path]:
    """Find the *last* checkpoints of a folder, the newest epoch first."""
    found = {path: re.fullmatch(LAST_PATTERN, path.name) for path in folder.glob("last_epoch=*.pt")}
    epochs = {path: int(match.group(1)) for path, match in found.items() if match}
    return sorted(epochs, key=lambda path: epochs[path], reverse=True)


def read_newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Read the newest checkpoint of the *last* series that loads; say which were skipped.

    Args:
        folder: output folder of a run.

    Returns:
        The file and its content on the CPU, or None if there is no loadable one.
    """
    for path in find_last(folder):
        try:
            # Only tensors and plain values are read, so a checkpoint from elsewhere cannot run code.
            content = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(content, dict) or "trainer" not in content:
                raise ValueError("holds no training state")
        except Exception as error:  # torch raises many kinds: EOFError, RuntimeError, UnpicklingError, OSError ...
            _LOGGER.warning(
                "skipped %s: it does not load (%s)", path, next(iter(str(error).splitlines()), type(error).__name__)
            )
            continue
        return path, content
    return None
