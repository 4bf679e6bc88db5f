"""Texts that MONAI reads as something else: ``#`` becomes ``::``, and ``$``, ``@``, ``%`` begin code."""

import ast
import builtins
import re
from collections.abc import Iterable
from typing import Any

from pipeline.bundle.configs import SIGNS
from pipeline.bundle.overrides.ids import is_remark

# What MONAI takes for a reference, see `monai.bundle.ReferenceResolver.id_matcher`.
_REFERENCE = re.compile(r"@\w*(?:(?:#|::)\w*)*")
_STAND_IN = "__reference"
# The names that MONAI gives to every expression.
_GIVEN = {"monai", "torch", "np", "numpy", _STAND_IN, *dir(builtins)}


def make_literal(text: str) -> str:
    r"""Return an expression whose value is the text, to the letter.

    Example:
        >>> make_literal("exp#3"), make_literal("$scratch")
        ("$'exp\\x233'", "$'$scratch'")
    """
    return "$" + repr(text).replace("#", r"\x23").replace("@", r"\x40")


def keep_texts(item: Any) -> Any:
    r"""Return a value in which MONAI changes no plain text; references, expressions and macros stay as they are.

    Example:
        >>> keep_texts({"_desc_": "a#b", "paths": ["exp#3", "@losses#focal", "exp3"]})
        {'_desc_': 'a#b', 'paths': ["$'exp\\x233'", '@losses#focal', 'exp3']}
    """
    if isinstance(item, str):
        return make_literal(item) if "#" in item and not item.startswith(SIGNS) else item
    if isinstance(item, list | tuple):
        return type(item)(keep_texts(value) for value in item)
    if isinstance(item, dict):
        return {key: value if is_remark(str(key)) else keep_texts(value) for key, value in item.items()}
    return item


def restore_texts(item: Any) -> Any:
    """Return a list or an object as it was before MONAI put ``::`` for ``#`` into its texts; other values as they are.

    Example:
        >>> restore_texts(["exp::3.pt", "@losses::focal"]), restore_texts("exp::3")
        (['exp#3.pt', '@losses#focal'], 'exp::3')
    """
    if isinstance(item, list):
        return [value.replace("::", "#") if isinstance(value, str) else restore_texts(value) for value in item]
    if isinstance(item, dict):
        values = restore_texts(list(item.values()))
        return dict(zip(item, values, strict=True))
    return item


def read_reference(text: Any) -> str:
    """Return the id that a text refers to; "" if it is no reference.

    Example:
        >>> read_reference("@losses::focal"), read_reference("@host/data"), read_reference("@##relative")
        ('losses#focal', '', '')
    """
    if not isinstance(text, str) or not _REFERENCE.fullmatch(text) or text.startswith(("@#", "@::")):
        return ""
    return text[1:].replace("::", "#")


def parse_expression(text: str) -> ast.Expression | None:
    """Return the syntax tree of an expression of a config, in which references are names; None if it has none."""
    try:
        return ast.parse(_REFERENCE.sub(_STAND_IN, text.removeprefix("$")).strip(), mode="eval")
    except (SyntaxError, ValueError):
        return None


def is_import(text: str) -> bool:
    """Return whether an expression imports something, which it alone can do without being an expression of Python."""
    return text.startswith(("$import ", "$from "))


def find_unknown_names(tree: ast.Expression, texts: Iterable[str]) -> list[str]:
    """Return the names in an expression that nothing defines.

    Args:
        tree: of the expression.
        texts: of the config, some of which import.

    Example:
        >>> find_unknown_names(parse_expression("$scratch + os.sep + len(@a)"), ["$import os"])
        ['scratch']
    """
    known = set(_GIVEN)
    for text in filter(is_import, texts):
        known |= {alias.asname or alias.name.split(".")[0] for alias in _list_aliases(text)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    known |= {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    known |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return sorted({node.id for node in names} - known)


def _list_aliases(text: str) -> list[ast.alias]:
    try:
        statements = ast.parse(text.removeprefix("$")).body
    except SyntaxError:
        return []
    return [alias for node in statements if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
