"""The values of a config with their ids, as MONAI numbers them, and the ids of a whole bundle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.bundle.audit.finding import COMMAND_LINE
from pipeline.bundle.audit.language.import_check import DEFAULT_ALIASES, Names, name_import, read_import

SEPARATOR = "::"
METADATA = "configs/metadata.json"
_MOST_SEARCHES = 20
_RELATIVE = re.compile(r"[@%](?:::)+")


@dataclass(frozen=True)
class Item:
    """A value in a config."""

    file: str  #: path of the config within the bundle
    place: str  #: id, with ``::`` between its parts
    key: str  #: last part of the id; "" at the root
    value: Any
    parent: Any = None  #: the object or list that holds it

    @property
    def is_setting(self) -> bool:
        """Whether it stands in a file whose texts classes and functions are given, not in metadata or a document."""
        return self.file.startswith(COMMAND_LINE) or (self.file.startswith("configs/") and self.file != METADATA)

    @property
    def is_argument(self) -> bool:
        """Whether it is given to a class or function, as far as this file shows."""
        inside = isinstance(self.parent, dict) and "_target_" in self.parent
        return inside or SEPARATOR in self.place.removesuffix(self.key).strip(SEPARATOR)


def list_items(file: str, data: Any) -> Iterator[Item]:
    """Yield all values of a config, the outer ones first.

    A key of the root is an id, so ``net#_target_`` gives the class of ``net``, and ``+net`` adds to it.
    """
    waiting = [Item(file, "", "", data)]
    while waiting:
        item = waiting.pop()
        yield item
        value = item.value
        if isinstance(value, dict | list):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += reversed([_make_child(item, str(key), child) for key, child in pairs])


def _make_child(item: Item, key: str, child: Any) -> Item:
    key = key.replace("#", SEPARATOR)
    if not item.place:
        key = key.lstrip("+~")
    place = f"{item.place}{SEPARATOR}{key}" if item.place else key
    return Item(item.file, place, key.rpartition(SEPARATOR)[2], child, item.value)


def make_absolute(place: str, text: str) -> str:
    """Return a text with ``::`` in its ids and relative references resolved, as MONAI does before anything else.

    Raises:
        ValueError: a reference leads above the root.

    Example:
        >>> make_absolute("train::trainer::network", "@###net"), make_absolute("a::b", "$@#c + 1")
        ('@net', '$@a::c + 1')
    """
    text = text.replace("#", SEPARATOR)
    parts = place.split(SEPARATOR)
    for prefix in sorted(set(_RELATIVE.findall(text)), reverse=True):
        levels = prefix.count(SEPARATOR)
        if levels > len(parts):
            raise ValueError(prefix)
        above = parts[: len(parts) - levels]
        text = text.replace(prefix, prefix[0] + "".join(f"{part}{SEPARATOR}" for part in above))
    return text


@dataclass
class BundleIds:
    """The ids of all configs of a bundle together: they override each other when they are run."""

    values: dict[str, list[Any]] = field(default_factory=dict)  #: id -> its values
    imports: set[str] = field(default_factory=set)  #: ids of imports, and of what holds imports
    names: Names = field(default_factory=Names)  #: what expressions can name
    searches: int = 0  #: how often a near id was looked for, which is slow

    def has(self, place: str) -> bool:
        """Return whether an id exists, or may exist because a macro or an expression stands on the way to it."""
        if place in self.values or place == "_meta_" or place.startswith("_meta_::"):
            return True
        parts = place.split(SEPARATOR)
        above = (SEPARATOR.join(parts[:length]) for length in range(1, len(parts)))
        texts = (value for name in above for value in self.values.get(name, ()))
        return any(isinstance(value, str) and value.startswith(("%", "$", "@")) for value in texts)

    def find_near(self, place: str) -> str:
        """Return the nearest id, for a hint; "" if none is near, or if this was asked too often."""
        import difflib

        self.searches += 1
        if self.searches > _MOST_SEARCHES:
            return ""
        return next(iter(difflib.get_close_matches(place, list(self.values)[:5000], n=1, cutoff=0.6)), "")


def collect_ids(
    configs: Mapping[str, Any], own_modules: frozenset[str], allowed: frozenset[str] = frozenset()
) -> BundleIds:
    """Collect the ids and imports of all configs.

    Args:
        configs: data by file.
        own_modules: top-level modules and packages in the bundle.
        allowed: names that the receiver allows.
    """
    aliases = {name: set(full) for name, full in DEFAULT_ALIASES.items()}
    found = BundleIds(names=Names(aliases, own_modules, allowed))
    for file, data in configs.items():
        for item in list_items(file, data):
            found.values.setdefault(item.place, []).append(item.value)
            node = read_import(item.value[1:]) if isinstance(item.value, str) and item.value[:1] == "$" else None
            if node is not None:
                alias, full = name_import(node)
                aliases.setdefault(alias, set()).add(full)
                _mark_import(found.imports, item.place)
    return found


def _mark_import(imports: set[str], place: str) -> None:
    parts = place.split(SEPARATOR)
    imports |= {SEPARATOR.join(parts[:length]) for length in range(1, len(parts) + 1)}
    imports.add("")
