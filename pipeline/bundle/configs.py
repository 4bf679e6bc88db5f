"""Configs as data: the objects that they build, their texts, their references, and texts that must not be run."""

import re
from collections.abc import Iterator
from typing import Any

Config = dict[str, Any]
_REFERENCE = re.compile(r"[@%]([A-Za-z_]\w*(?:(?:#|::)\w+)*)")
# With these MONAI begins an expression, a reference and a macro that reads another file.
SIGNS = ("$", "@", "%")
# Relative references and macros, which MONAI resolves anywhere in a text.
RELATIVE = re.compile(r"(?<=[@%])(?=#|::)")


def read_target(item: Any) -> str:
    """Return the class that an object of a config builds, without its package; "" if it builds none.

    Example:
        >>> read_target({"_target_": "pipeline.transforms.EncodeMaskd"}), read_target({"lr": 1})
        ('EncodeMaskd', '')
    """
    target = item.get("_target_") if isinstance(item, dict) else None
    return target.rpartition(".")[2] if isinstance(target, str) else ""


def find_blocks(item: Any, *targets: str) -> Iterator[Config]:
    """Yield the objects of a config that build one of the classes, in their order.

    Args:
        item: the config, or a part of it.
        targets: names of classes without package.

    Example:
        >>> list(find_blocks({"steps": [{"_target_": "a.Flipd"}, {"_target_": "Cropd"}]}, "Flipd"))
        [{'_target_': 'a.Flipd'}]
    """
    if read_target(item) in targets:
        yield item
    if isinstance(item, dict | list):
        for value in item.values() if isinstance(item, dict) else item:
            yield from find_blocks(value, *targets)


def list_texts(item: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a config with its id."""
    if isinstance(item, str):
        yield where, item
    elif isinstance(item, dict | list):
        for key, value in item.items() if isinstance(item, dict) else enumerate(item):
            yield from list_texts(value, f"{where}#{key}" if where else str(key))


def find_references(text: str) -> set[str]:
    """Return the ids that a text of a config refers to.

    Example:
        >>> sorted(find_references("$@train#a + @b")), find_references("mail@host")
        (['b', 'train#a'], set())
    """
    if not text.startswith(SIGNS):
        return set()
    return {found.replace("::", "#") for found in _REFERENCE.findall(text)}


def make_inert(item: Any, prefix: str = " ") -> Any:
    """Return a value in which no text is an expression, a reference or a macro for MONAI.

    Names of datasets, labels, channels and folders come from files that others wrote. A text that begins with ``$``,
    ``@`` or ``%`` would be run, so it gets a prefix; MONAI does not strip a space. A relative reference (``@#``), which
    MONAI follows anywhere in a text, gets a space inside.

    Args:
        item: a text, or a list or object with texts; the keys of an object count too.
        prefix: ``"./"`` for relative paths, which keep their meaning and are not changed inside.

    Example:
        >>> make_inert({"name": "$print(1)", "labels": ["a@##b", "@seed"]}), make_inert("%x/data", "./")
        ({'name': ' $print(1)', 'labels': ['a@ ##b', ' @seed']}, './%x/data')
    """
    if isinstance(item, str):
        text = item if prefix.strip() else RELATIVE.sub(" ", item)
        return prefix + text if text.startswith(SIGNS) else text
    if isinstance(item, list | tuple):
        return [make_inert(value, prefix) for value in item]
    if isinstance(item, dict):
        return {make_inert(key, prefix): make_inert(value, prefix) for key, value in item.items()}
    return item
