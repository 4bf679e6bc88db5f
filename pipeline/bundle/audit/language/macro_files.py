"""The files that macros of configs read."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline.bundle.audit.language.config_items import list_items

_MACRO_FILE = re.compile(r"(.*\.(json|yaml|yml))(?=::|$)", re.IGNORECASE)


def read_macro_file(text: str) -> str:
    """Return the path in a macro, "" if it reads the config itself.

    Args:
        text: after ``%``, with ``::`` between the parts of ids.

    Example:
        >>> read_macro_file("other.json::net::channels"), read_macro_file("net::channels")
        ('other.json', '')
    """
    found = _MACRO_FILE.match(text)
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
        texts = [item.value for item in list_items(path, data.get(path)) if isinstance(item.value, str)]
        for text in texts:
            named = read_macro_file(text[1:].replace("#", "::")) if text.startswith("%") else ""
            # MONAI looks in the current folder, which may be that of the configs.
            new = {*find_files(named, data), *find_files(f"configs/{named}", data)} - found if named else set()
            found |= new
            waiting += new
    return found
