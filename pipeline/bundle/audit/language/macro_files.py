"""The files that macros of configs read."""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline.bundle.audit.language.config_items import SEPARATOR, Item, list_items, make_absolute

_MACRO_FILE = re.compile(r"(.*\.(json|yaml|yml))(?=::|$)", re.IGNORECASE)


def read_macro_file(text: str) -> str:
    """Return the path in a macro, "" if it reads the config itself.

    Args:
        text: after ``%``, with ``::`` between the parts of ids.

    Example:
        >>> read_macro_file("other.json::net::channels"), read_macro_file("net::channels")
        ('other.json', '')
    """
    found = _MACRO_FILE.search(text)  # as MONAI does: the path may stand on another line than the first
    return found[1] if found else ""


def find_files(path: str, files: Collection[str]) -> Iterator[str]:
    """Yield the files of a bundle at which a path ends that starts in the bundle or in a folder above it.

    Example:
        >>> list(find_files("spleen/configs/a.json", ["configs/a.json", "LICENSE"]))
        ['configs/a.json']
    """
    return (file for file in files if f"/{path}".endswith(f"/{file}"))


def follow_macros(chosen: Collection[str], data: Mapping[str, Any]) -> set[str]:
    """Return chosen configs with those that they read by macros, and so on.

    Args:
        chosen: paths within the bundle.
        data: of all configs, by path.
    """
    found, waiting = set(chosen), list(chosen)
    while waiting:
        path = waiting.pop()
        items = [item for item in list_items(path, data.get(path)) if isinstance(item.value, str)]
        for item in items:
            new = {file for file in _follow_macro(item, data) if file not in found}
            found |= new
            waiting += new
    return found


def _follow_macro(item: Item, data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the configs that a text may read if it is a macro."""
    if not item.value.startswith("%"):
        return
    bare = item.value[1:].replace("#", SEPARATOR)
    names = {read_macro_file(bare)}
    with contextlib.suppress(ValueError):
        names.add(read_macro_file(make_absolute(item.place, item.value)[1:]))
    if bare.startswith(SEPARATOR):
        # Its path begins with the place to which another macro may copy it.
        end = read_macro_file(bare.lstrip(":"))
        names.add(end)
        yield from (file for file in data if end and file.endswith(end))
    for name in filter(None, names):
        # MONAI looks in the current folder, which may be that of the configs.
        yield from find_files(name, data)
        yield from find_files(f"configs/{name}", data)
