"""Is there room for what will be written? Asked before the work, not after an hour of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline.issues import InputError


def require_space(path: Path, needed: int) -> None:
    """Make sure that a file can be written.

    Args:
        path: the file; its folder need not exist yet.
        needed: its size in bytes, at most.

    Raises:
        InputError: ``output-space``: the place is a folder, may not be written to, or is too full.
    """
    if path.is_dir():
        raise InputError(f"output-space: cannot write {path}: it is a folder; name a file in it")
    try:
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"output-space: cannot write {path}: {(error.strerror or str(error)).lower()}") from None
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"output-space: cannot write {path}: no permission to write to {folder}; choose another place")
    if free < needed:
        amounts = f"{free / 1e6:.1f} MB free, {needed / 1e6:.1f} MB needed"
        raise InputError(
            f"output-space: cannot write {path}: {folder} has {amounts}; free some or choose another place"
        )
