"""Keep Python from importing files that lie in the bundle or in the current folder."""

import os
import sys
from pathlib import Path

import pipeline

_HOME = Path(pipeline.__file__).resolve().parents[1]


def forget_local_places(*folders: Path) -> None:
    """Take the current folder, relative places and the given folders out of where Python looks for modules.

    Who types ``python -m pipeline`` in a folder has that folder before Python's own library in `sys.path`, and an empty
    entry of PYTHONPATH means the current folder, too. A file ``json.py`` there would run. The environment is changed as
    well, for processes that are started later.

    Args:
        folders: with everything in them.

    Example:
        >>> before = list(sys.path)
        >>> forget_local_places()
        >>> "" in sys.path
        False
        >>> sys.path[:] = before
    """
    banned = [Path.cwd(), *(folder.resolve() for folder in folders)]
    sys.path[:] = [place for place in sys.path if _is_kept(place, banned)]
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = os.pathsep.join(place for place in given if place and _is_kept(place, banned))
    os.environ.pop("PYTHONPATH", None)
    os.environ.update({"PYTHONPATH": kept} if kept else {}, PYTHONSAFEPATH="1")


def _is_kept(place: str, banned: list[Path]) -> bool:
    """Whether a place is absolute and not banned; where this package itself lies is trusted, or nothing is."""
    path = Path(place).resolve()
    local = path == banned[0] or any(path.is_relative_to(folder) for folder in banned[1:])
    return path == _HOME or (os.path.isabs(place) and not local)
