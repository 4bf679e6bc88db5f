"""Check that there is space for an output file, before the work that produces it."""

import os
import shutil
from pathlib import Path

from pipeline.issues import InputError


def require_space(path: Path, needed: int) -> None:
    """Make sure that a file of up to ``needed`` bytes can be written; its folder need not exist yet.

    Raises:
        InputError: ``output-space``: the path is a folder, cannot be written, or its disk is too full.
    """
    problem = f"output-space: cannot write {path}"
    if path.is_dir():
        raise InputError(f"{problem}: it is a folder; name a file in it")
    try:
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"{problem}: {(error.strerror or str(error)).lower()}") from None
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{problem}: no permission to write to {folder}; choose another place")
    if free < needed:
        amounts = f"{free / 1e6:.1f} MB free, {needed / 1e6:.1f} MB needed"
        raise InputError(f"{problem}: {folder} has {amounts}; free some or choose another place")
