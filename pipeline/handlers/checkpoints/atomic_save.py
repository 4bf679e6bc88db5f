"""Write checkpoints and records atomically, with a clear error when the disk is full.

ignite's ``DiskSaver`` also renames, but gives its temporary files random names, so that the remains of a killed run
look like a user's files, and it does not flush to the disk before renaming.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.atomic import format_bytes, is_disk_full, write_atomically
from pipeline.issues import InputError

#: Bytes of a checkpoint in addition to its tensors
OVERHEAD = 64 * 1024


def save_state(state: Mapping[str, Any], path: Path, last_good: str | None = None) -> None:
    """Save a state dict; the file gets its name only when all of it is on the disk.

    Args:
        state: argument of ``torch.save``.
        path: final name; its folder must exist.
        last_good: checkpoint to name in the error.

    Raises:
        InputError: the disk is full; ``path`` is unchanged.
    """
    needed = count_bytes(state) + OVERHEAD
    if shutil.disk_usage(path.parent).free < needed:
        raise _disk_full(path.parent, needed, last_good)
    try:
        # Given a path, torch would hide that the disk is full.
        with write_atomically(path, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        if is_disk_full(error) or shutil.disk_usage(path.parent).free < needed:
            raise _disk_full(path.parent, needed, last_good) from None
        raise


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file atomically.

    Raises:
        InputError: the file cannot be written.
    """
    text = json.dumps(content, indent=4, ensure_ascii=False) + "\n"
    try:
        with write_atomically(path) as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None


def remove_stale(folder: Path, names: Sequence[str]) -> list[Path]:
    """Remove the temporary files of a killed run.

    Args:
        folder: folder of the files, without its sub-folders.
        names: regular expressions of the final names.

    Returns:
        The files removed.
    """
    ours = re.compile(rf"\.({'|'.join(names)})\.\d+\.tmp")
    stale = [path for path in folder.glob(".*.tmp") if ours.fullmatch(path.name)]
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def count_bytes(state: Any) -> int:
    """Count the bytes of all tensors in a nested state.

    Example:
        >>> count_bytes({"weight": torch.zeros(3), "steps": [torch.zeros(1, dtype=torch.float64), 7]})
        20
    """
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(count_bytes(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return sum(count_bytes(value) for value in state)
    return 0


def _disk_full(folder: Path, needed: int, last_good: str | None) -> InputError:
    free = format_bytes(shutil.disk_usage(folder).free)
    return InputError(
        f"disk full at {folder}: needed {format_bytes(needed)}, free {free};"
        f" last good checkpoint: {last_good or 'none'}"
    )
