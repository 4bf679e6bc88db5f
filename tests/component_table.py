"""MONAI's table of its classes, made once for a process, and not for every config that is parsed.

A search of MONAI's modules takes a quarter of a second, and most tests parse several configs. This module makes the
table when it is imported: processes that are forked from one that has it need not search.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from monai.bundle import ComponentLocator

_search = ComponentLocator._find_classes_or_functions


@cache
def _search_once(names: tuple[str, ...]) -> dict[str, list[str]]:
    return _search(ComponentLocator(), names)


def find_classes_or_functions(locator: ComponentLocator, modnames: Sequence[str]) -> Any:
    """Search the same modules only once; others that were imported since make another table."""
    return _search_once(tuple(modnames))


ComponentLocator._find_classes_or_functions = find_classes_or_functions  # type: ignore[method-assign,assignment]
ComponentLocator().get_component_module_name("UNet")
