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
    def argument(self) -> str:
        """Name of the argument that it belongs to: the last part of the id that is no number in a list."""
        return next((part for part in reversed(self.place.split(SEPARATOR)) if not _is_number(part)), "")


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
        key = key.removeprefix("+")
    place = f"{item.place}{SEPARATOR}{key}" if item.place else key
    return Item(item.file, place, key.rpartition(SEPARATOR)[2], child, item.value)


def _is_number(part: str) -> bool:
    """Whether MONAI takes a part of an id for a number in a list."""
    try:
        int(part)
    except ValueError:
        return False
    return True


def blur_numbers(place: str) -> str:
    """Return an id with 0 for each number, because -1 and lists that are joined give one element several numbers.

    Example:
        >>> blur_numbers("train::handlers::-1::name")
        'train::handlers::0::name'
    """
    return SEPARATOR.join("0" if _is_number(part) else part for part in place.split(SEPARATOR))


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
    imports: set[str] = field(default_factory=set)  #: ids of imports, and of what holds imports; numbers are blurred
    #: ids of what holds a relative reference that leads out of it, so that a copy means another id; numbers are blurred
    torn: set[str] = field(default_factory=set)
    elements: dict[str, list[Any]] = field(default_factory=dict)  #: as `values`, those of a list under the list's id
    names: Names = field(default_factory=Names)  #: what expressions can name
    searches: int = 0  #: how often a near id was looked for, which is slow

    def has(self, place: str) -> bool:
        """Return whether an id exists, or may exist because a macro or an expression stands on the way to it."""
        if place in self.values or place == "_meta_" or place.startswith("_meta_::"):
            return True
        return self.is_computed(place)

    def is_computed(self, place: str) -> bool:
        """Return whether a macro, a reference or an expression stands on the way to an id."""
        parts = place.split(SEPARATOR)
        above = (SEPARATOR.join(parts[:length]) for length in range(1, len(parts)))
        texts = (value for name in above for value in self.values.get(name, ()))
        return any(isinstance(value, str) and value.startswith(("%", "$", "@")) for value in texts)

    def list_elements(self, place: str) -> list[Any]:
        """Return the values of an id and of all elements of the list that it is or belongs to."""
        return self.elements.get(_name_list(place), [])

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
            found.elements.setdefault(_name_list(item.place), []).append(item.value)
            if isinstance(item.value, str) and item.value.startswith(("$", "@", "%")):
                _mark_torn(found.torn, item)
            node = read_import(item.value[1:]) if isinstance(item.value, str) and item.value[:1] == "$" else None
            if node is not None:
                alias, full = name_import(node)
                aliases.setdefault(alias, set()).add(full)
                _mark_import(found.imports, item.place)
    return found


def _name_list(place: str) -> str:
    """Return an id without the numbers at its end."""
    blurred = blur_numbers(place)
    while blurred.endswith(f"{SEPARATOR}0"):
        blurred = blurred.removesuffix(f"{SEPARATOR}0")
    return blurred


def _mark_import(imports: set[str], place: str) -> None:
    parts = blur_numbers(place).split(SEPARATOR)
    imports |= {SEPARATOR.join(parts[:length]) for length in range(1, len(parts) + 1)}
    imports.add("")


def _mark_torn(torn: set[str], item: Item) -> None:
    prefixes = _RELATIVE.findall(item.value.replace("#", SEPARATOR))
    levels = max((prefix.count(SEPARATOR) for prefix in prefixes), default=0)
    parts = blur_numbers(item.place).split(SEPARATOR)
    # One level leads to the siblings, out of a copy of the text alone.
    torn |= {SEPARATOR.join(parts[: len(parts) - level]) for level in range(min(levels, len(parts)))}
