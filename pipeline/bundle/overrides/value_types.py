"""Whether a value of a config suits an annotation, or the default that it replaces."""

import ast
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pipeline.bundle.overrides.ids import is_object
from pipeline.bundle.overrides.literals import parse_expression

_SEQUENCES = (list, tuple, set, frozenset, Sequence, Collection, Iterable)


def accepts(annotation: Any, value: Any) -> bool | None:
    """Return whether an annotation allows a value of JSON; None if that cannot be said.

    Example:
        >>> accepts(int | None, 3), accepts(float, "fast"), accepts(Any, "fast")
        (True, False, None)
        >>> accepts(Sequence[int] | int, [96, 96]), accepts(Sequence[int] | int, "96,96")
        (True, False)
    """
    if annotation in (None, NoneType):
        return value is None
    if annotation is bool:
        return isinstance(value, bool)
    if annotation in (int, float):
        return is_number(value) and (annotation is float or isinstance(value, int))
    if annotation is str:
        return isinstance(value, str)
    if isinstance(annotation, type) and issubclass(annotation, os.PathLike):
        return isinstance(value, str)
    return _accepts_compound(annotation, value)


def _accepts_compound(annotation: Any, value: Any) -> bool | None:
    origin, inner = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, UnionType):
        return _accepts_one_of(inner, value)
    if origin is Literal:
        return any(value == item and type(value) is type(item) for item in inner)
    if origin is os.PathLike:
        return isinstance(value, str)
    if origin in _SEQUENCES:
        return _accepts_items(inner, value, of_tuple=origin is tuple)
    if origin in (dict, Mapping):
        return isinstance(value, dict)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return value in [item.value for item in annotation]
    return _accepts_device(annotation, value)


def _accepts_one_of(annotations: Sequence[Any], value: Any) -> bool | None:
    # A text for `torch.device | str` is the name of a device.
    if isinstance(value, str) and any(is_device(item) for item in annotations):
        annotations = [item for item in annotations if item is not str]
    answers = [accepts(item, value) for item in annotations]
    return True if True in answers else None if None in answers else False


def _accepts_items(annotations: tuple[Any, ...], value: Any, *, of_tuple: bool) -> bool | None:
    if isinstance(value, str):  # a text is a sequence of texts, but no list of numbers
        return None if not annotations or accepts(annotations[0], value) is not False else False
    if not isinstance(value, list | tuple):
        return False
    if of_tuple and annotations and annotations[-1] is not Ellipsis:
        if len(annotations) != len(value):
            return False
        answers = [accepts(*pair) for pair in zip(annotations, value, strict=True)]
    else:
        answers = [accepts(annotations[0], item) for item in value] if annotations else []
    return False if False in answers else None if None in answers else True


def is_device(annotation: Any) -> bool:
    """Return whether an annotation is `torch.device`, without importing torch."""
    return getattr(annotation, "__module__", "") == "torch" and getattr(annotation, "__name__", "") == "device"


def _accepts_device(annotation: Any, value: Any) -> bool | None:
    if not is_device(annotation) or not isinstance(value, str):
        return None
    try:
        annotation(value)
    except RuntimeError:
        return False
    return True


def suits(default: Any, value: Any) -> bool | None:
    """Return whether a value can stand where a config has this default; None if that cannot be said.

    Example:
        >>> suits(0.001, 0.1), suits(0.001, "fast"), suits("$@root + '/output'", 5), suits(None, 5)
        (True, False, False, None)
    """
    if isinstance(default, bool):
        return isinstance(value, bool)
    if is_number(default):
        return _suits_number(default, value)
    if is_text(default):
        return isinstance(value, str)
    if isinstance(default, list):
        return _suits_list(default, value)
    if is_object(default):
        return None if value is None else is_object(value)
    if isinstance(default, dict):
        return isinstance(value, dict)
    return None


def _suits_number(default: Any, value: Any) -> bool | None:
    if is_number(value):
        return True if isinstance(default, float) or isinstance(value, int) else None
    return False


def _suits_list(default: list[Any], value: Any) -> bool | None:
    numbers = bool(default) and all(is_number(item) for item in default)
    if isinstance(value, list | tuple):
        return not (numbers and any(isinstance(item, str) and not item.startswith(("@", "$")) for item in value))
    texts = bool(default) and all(isinstance(item, str) for item in default)
    unsure = value is None or is_number(value) or (texts and isinstance(value, str))
    return None if unsure else False


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_text(default: Any) -> bool:
    """Return whether a default is a text: a plain one, or an expression that joins texts to a path.

    Example:
        >>> is_text("data"), is_text("$@bundle_root + '/output'"), is_text("$@network.parameters()"), is_text("@input")
        (True, True, False, False)
    """
    if not isinstance(default, str):
        return False
    if not default.startswith("$"):
        return not default.startswith(("@", "%"))
    tree = parse_expression(default)
    parts = [tree.body.left, tree.body.right] if tree and isinstance(tree.body, ast.BinOp) else []
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in parts)
