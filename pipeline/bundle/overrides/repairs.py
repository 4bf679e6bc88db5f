"""Read what was typed as what the config expects: a text for a path of digits, a bool for "true"."""

import os
from collections.abc import Iterator
from typing import Any

from pipeline.bundle.configs import SIGNS
from pipeline.bundle.overrides.expectations import Expectation

_BRACKETS = ("[", "(", "{")
_QUOTES = ("'", '"')


def read_value(value: Any, word: str | None, expected: Expectation) -> Any:
    """Return the value that was meant; the value itself if that is not certain.

    Args:
        value: as the command line's parser (Fire) reads the word: digits as a number, ``a,b`` as a tuple, and nothing
            of what follows a ``#``.
        word: as it was typed; None if that is not known.
        expected: what the config expects there.

    Example:
        >>> path, switch = Expectation("runs/a"), Expectation(False)
        >>> read_value(20240901, "20240901", path), read_value(("T1", "T2"), "T1,T2", path)
        ('20240901', 'T1,T2')
        >>> read_value("exp", "exp#3", path), read_value("true", "true", switch), read_value("maybe", "maybe", switch)
        ('exp#3', True, 'maybe')
    """
    if word is not None and "#" in word and not word.startswith((*_BRACKETS, *_QUOTES, *SIGNS)):
        value = word
    return next((item for item in _list_candidates(value, word, expected) if expected.allows(item)), value)


def _list_candidates(value: Any, word: str | None, expected: Expectation) -> Iterator[Any]:
    yield value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        yield value.lower() == "true"
    if isinstance(value, int) and value in (0, 1):
        yield bool(value)
    if isinstance(value, float) and value.is_integer():
        yield int(value)
    if not expected.is_text:
        return
    if word and (os.path.exists(word) or not (value is None or isinstance(value, bool) or word.startswith(_BRACKETS))):
        yield word
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
