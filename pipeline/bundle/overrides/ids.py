"""Ids of a config, such as ``train#dataset#cache_rate``: find, set and list what they name."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.bundle.configs import Config

MISSING = object()


def split_id(name: str) -> list[str]:
    """Return the parts of an id; MONAI knows two signs between them.

    Example:
        >>> split_id("train#dataset"), split_id("train::dataset")
        (['train', 'dataset'], ['train', 'dataset'])
    """
    return name.replace("::", "#").split("#")


def look_up(config: Any, name: str) -> Any:
    """Return what an id names, or `MISSING`.

    Example:
        >>> look_up({"train": [{"lr": 1}]}, "train#0#lr"), look_up({"train": []}, "train#0") is MISSING
        (1, True)
    """
    for part in split_id(name):
        if isinstance(config, Mapping) and part in config:
            config = config[part]
        elif isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        else:
            return MISSING
    return config


def apply_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a copy of a config with some ids set; ids whose parent does not exist are left out.

    Example:
        >>> apply_values({"a": {"b": 1}}, {"a#b": 2, "c": 3, "x#y": 4})
        {'a': {'b': 2}, 'c': 3}
    """
    changed = copy.deepcopy(config)
    for name, value in values.items():
        *parents, last = split_id(name)
        parent = look_up(changed, "#".join(parents)) if parents else changed
        if isinstance(parent, dict):
            parent[last] = copy.deepcopy(value)
        elif isinstance(parent, list) and last.isdigit() and int(last) < len(parent):
            parent[int(last)] = copy.deepcopy(value)
    return changed


def list_ids(item: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all ids in a config with what they name, the outer ones first.

    Example:
        >>> list(list_ids({"a": {"b": [5]}}))
        [('a', {'b': [5]}), ('a#b', [5]), ('a#b#0', 5)]
    """
    if isinstance(item, dict | list | tuple):
        for key, value in item.items() if isinstance(item, dict) else enumerate(item):
            name = f"{where}#{key}" if where else str(key)
            yield name, value
            yield from list_ids(value, name)


def is_object(item: Any) -> bool:
    """Return whether a part of a config builds an object."""
    return isinstance(item, Mapping) and "_target_" in item


def is_remark(name: str) -> bool:
    """Return whether an id is one of MONAI's own words, such as ``_desc_`` or ``_disabled_``."""
    last = split_id(name)[-1]
    return len(last) > 2 and last.startswith("_") and last.endswith("_")
