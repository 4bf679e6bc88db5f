"""Settings of a sweep: one for each combination of the values of its keys."""

import itertools
import re
from collections.abc import Mapping, Sequence

from pipeline.issues import InputError

_PAIRS = {"(": ")", "[": "]", "{": "}"}
_LONGEST = 100


def list_settings(words: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the overrides of each setting, as typed, by the name of its folder; without a sweep one named "".

    Args:
        words: ``KEY=V1,V2`` each. Commas in brackets or quotes belong to a value.

    Raises:
        InputError: a word is something else, or names a value or a key twice.

    Example:
        >>> list_settings(["lr=0.1,0.2", "roi_size=[8,8]"])["lr=0.2,roi_size=_8,8_"]
        {'lr': '0.2', 'roi_size': '[8,8]'}
        >>> list_settings([])
        {'': {}}
    """
    choices = dict(_read_sweep(word) for word in words)
    if len(choices) < len(words):
        raise InputError("--sweep names a key twice; give all its values in one: --sweep KEY=V1,V2")
    grid = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    settings: dict[str, dict[str, str]] = {}
    for setting in grid:
        name = _name_setting(setting)
        settings[name if name not in settings else f"{name}_{len(settings)}"] = setting
    return settings


def split_values(text: str) -> list[str]:
    """Split a text at the commas that stand in no bracket and no quotes.

    Example:
        >>> split_values("[1,2],'a,b',@losses#focal")
        ['[1,2]', "'a,b'", '@losses#focal']
    """
    values, start, closing, quote = [], 0, [], ""
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in _PAIRS:
            closing.append(_PAIRS[char])
        elif closing and char == closing[-1]:
            closing.pop()
        elif char == "," and not closing:
            values.append(text[start:place])
            start = place + 1
    return [value.strip() for value in (*values, text[start:])]


def _read_sweep(word: str) -> tuple[str, list[str]]:
    key, equals, text = word.partition("=")
    values = split_values(text)
    if not equals or not key.strip() or not all(values):
        example = "--sweep learning_rate=0.001,0.0003"
        raise InputError(f"--sweep expects KEY=V1,V2, no value empty, got {word!r}; for example {example}")
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise InputError(f"--sweep {key} names {twice} twice; leave one out")
    return key.strip(), values


def _name_setting(setting: Mapping[str, str]) -> str:
    name = ",".join(f"{key}={value}" for key, value in setting.items())
    return re.sub(r"[^\w.,=+-]", "_", name)[:_LONGEST]
