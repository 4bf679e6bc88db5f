"""Values that follow an option of our own commands, such as ``--set learning_rate=0.1``."""

import ast
import json
from collections.abc import Sequence
from typing import Any

from pipeline.issues import InputError


def read_assignments(option: str, words: Sequence[str]) -> dict[str, Any]:
    """Return the values by id of words such as ``learning_rate=0.1``.

    Args:
        option: the option that they follow, for the message.
        words: one for each value.

    Raises:
        InputError: a word is not ``ID=VALUE``.

    Example:
        >>> read_assignments("--set", ["image_size=[128,128]", "a#b=x=y"])
        {'image_size': [128, 128], 'a#b': 'x=y'}
    """
    return {name: read_word(text) for name, text in split_assignments(option, words).items()}


def split_assignments(option: str, words: Sequence[str]) -> dict[str, str]:
    """Return the same as `read_assignments`, each value as it was typed.

    Raises:
        InputError: a word is not ``ID=VALUE``.
    """
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{option} expects ID=VALUE, got {word!r}; for example {option} image_size=[128,128]")
        values[name.strip()] = value
    return values


def read_word(text: str) -> Any:
    """Return a value of the command line as JSON or Python reads it, else as text.

    Example:
        >>> [read_word(text) for text in ("3", "true", "[1, 2]", "None", "@losses#dice")]
        [3, True, [1, 2], None, '@losses#dice']
    """
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text
