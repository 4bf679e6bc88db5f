"""Run MONAI's commands while only some packages can be imported: ``python alone.py JSON``.

The JSON has ``packages``, which are there with all that they depend on, ``without``, which are not there in any case,
and ``commands``, the words after ``python -m monai.bundle``. All others seem not to be installed, as in an environment
that was made from a bundle's ``required_packages_version``.
"""

import importlib.machinery
import json
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from typing import Any

from packaging.requirements import Requirement

# Every bundle states their versions under keys of their own.
BASE = ("monai", "torch", "numpy")
COMMANDS = ("run", "ckpt_export", "onnx_export")
OWN = "monai-segmentation-suite"


def normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def add_dependencies(names: Iterable[str]) -> set[str]:
    """Return distributions with all that they require, without extras."""
    found: set[str] = set()
    waiting = [normalise(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        # What this package requires stands in the metadata itself; its own requirements are those of all its commands.
        for text in _list_requirements(name) if name != OWN else ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(normalise(requirement.name))
    return found


def _list_requirements(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:  # for another platform
        return []


class Finder(importlib.machinery.PathFinder):
    """Find the modules of the standard library, of this package and of the listed packages, and no others."""

    hidden: frozenset[str] = frozenset()

    @classmethod
    def find_spec(cls, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        return None if fullname.partition(".")[0] in cls.hidden else super().find_spec(fullname, path, target)


def hide(packages: Iterable[str], without: Iterable[str]) -> None:
    """Let all modules of other packages seem not to be installed."""
    allowed = add_dependencies([*BASE, *packages]) - {normalise(name) for name in without}
    modules = packages_distributions()
    there = {top for top, names in modules.items() if {normalise(name) for name in names} & {*allowed, OWN}}
    Finder.hidden = frozenset(modules.keys() - there - set(sys.stdlib_module_names))
    sys.meta_path[:] = [Finder if item is importlib.machinery.PathFinder else item for item in sys.meta_path]
    for name in [name for name in sys.modules if name.partition(".")[0] in Finder.hidden]:
        del sys.modules[name]


def main() -> None:
    task = json.loads(sys.argv[1])
    hide(task["packages"], task["without"])
    import fire
    import monai.bundle

    for words in task["commands"]:
        fire.Fire({name: getattr(monai.bundle, name) for name in COMMANDS}, words)


if __name__ == "__main__":
    main()
