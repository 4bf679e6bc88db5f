"""The label of each category, by a named rule or by a table that the user types."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from pipeline.datasets.coco.annotations import CocoCategory, CocoFile
from pipeline.issues import InputError

# What the 8 bits of a mask hold besides the background.
_MOST_LABELS = 255
BACKGROUND = {0: "background"}
_TERM = re.compile(r"\s*(?P<category>.+?)\s*=\s*(?P<label>\d{1,3})\s*")


def join_categories(files: Iterable[CocoFile]) -> dict[int, CocoCategory]:
    """Return the classes of several annotation files by id; raise `InputError` if two files disagree on an id."""
    table: dict[int, CocoCategory] = {}
    owner: dict[int, str] = {}
    for file in files:
        for number, category in file.categories.items():
            known = table.setdefault(number, category)
            if known.name != category.name:
                message = f"category {number} is {known.name!r} in {owner[number]} and {category.name!r} in {file.name}"
                raise InputError(f"{message}; give both files the same categories")
            owner.setdefault(number, file.name)
    return dict(sorted(table.items()))


def map_categories(
    rule: str, table: Mapping[int, CocoCategory], used: Mapping[int, int]
) -> tuple[dict[int, int], dict[int, str]]:
    """Give each category a label.

    Args:
        rule: ``"merge"``: all are label 1; ``"keep"``: those in use are labels 1, 2, ... in the order of their ids; or
            ``"CATEGORY=LABEL,..."`` with ids or names, label 0 to leave a category out.
        table: the classes by id.
        used: number of annotations of each class that has any.

    Returns:
        The label id of each category id, and the name of each label id, background included.

    Raises:
        InputError: the rule cannot be read, names an unknown category, leaves out one in use, skips a label, or there
            are more than 255 labels.

    Example:
        >>> table = {1: CocoCategory("glioma"), 2: CocoCategory("pituitary")}
        >>> map_categories("merge", table, {1: 5, 2: 5})
        ({1: 1, 2: 1}, {0: 'background', 1: 'foreground'})
        >>> map_categories("glioma=2,pituitary=1", table, {1: 5, 2: 5})
        ({1: 2, 2: 1}, {0: 'background', 1: 'pituitary', 2: 'glioma'})
    """
    if rule == "merge":
        return dict.fromkeys(table, 1), {**BACKGROUND, 1: _name_all(table, used)}
    if rule == "keep":
        labels = {number: label for label, number in enumerate(sorted(used), start=1)}
        if len(labels) > _MOST_LABELS:
            hint = "merge makes one label of all; CATEGORY=LABEL,... chooses"
            raise InputError(f"categories keep: {len(labels)} are in use, a mask holds {_MOST_LABELS} labels; {hint}")
    else:
        labels = _read_rule(rule, table)
    for number in sorted(set(used) - set(labels)):
        message = f"categories {rule!r} does not contain {_describe(number, table)}, {used[number]} annotations"
        raise InputError(f"{message}; add {number}=0 to leave it out")
    return labels, {**BACKGROUND, **_name_labels(labels, table)}


def _read_rule(rule: str, table: Mapping[int, CocoCategory]) -> dict[int, int]:
    labels: dict[int, int] = {}
    for term in rule.split(","):
        match = _TERM.fullmatch(term)
        if not match:
            raise InputError(f"categories must be merge, keep or CATEGORY=LABEL,...; cannot read {term!r} in {rule!r}")
        for number in _find_categories(match["category"], table):
            if labels.setdefault(number, int(match["label"])) != int(match["label"]):
                raise InputError(f"categories {rule!r} gives {_describe(number, table)} two labels")
    found = sorted(set(labels.values()) - {0})
    if not found or found != list(range(1, len(found) + 1)) or len(found) > _MOST_LABELS:
        raise InputError(f"labels must be 1, 2, ... without a gap (0 leaves a category out), {rule!r} has {found}")
    return labels


def _find_categories(text: str, table: Mapping[int, CocoCategory]) -> list[int]:
    """Return the category with this id, else those with this name: names may be numbers, and occur twice."""
    if re.fullmatch(r"\d{1,18}", text) and int(text) in table:
        return [int(text)]
    numbers = [number for number, category in table.items() if category.name == text]
    if not numbers:
        known = ", ".join(_describe(number, table) for number in list(table)[:8]) or "none"
        raise InputError(f"no category {text!r}; known: {known}")
    return numbers


def _describe(number: int, table: Mapping[int, CocoCategory]) -> str:
    return f"{number} ({table[number].name!r})"


def _name_all(table: Mapping[int, CocoCategory], used: Mapping[int, int]) -> str:
    """Return the name, or else the supercategory, that all classes in use share."""
    for names in ({table[number].name for number in used}, {table[number].supercategory for number in used}):
        if len(names) == 1 and names != {""} and names != {"none"}:
            return names.pop()
    return "foreground"


def _name_labels(labels: Mapping[int, int], table: Mapping[int, CocoCategory]) -> dict[int, str]:
    names: dict[int, str] = {}
    for label in sorted(set(labels.values()) - {0}):
        parts = dict.fromkeys(table[number].name for number in labels if labels[number] == label)
        names[label] = "+".join(parts)
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    return {label: f"{name} ({label})" if name in twice else name for label, name in names.items()}
