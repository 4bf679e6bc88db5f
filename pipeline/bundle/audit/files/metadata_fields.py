"""Check ``metadata.json``: its shapes, which clients evaluate, and what a receiver must know."""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.bundle.audit.finding import Finding, make_finding, shorten
from pipeline.bundle.audit.language.config_items import list_items
from pipeline.bundle.configs import SIGNS

# The grammar of MONAI's `safe_eval`, with which it computes shapes since 1.6.1; before, it used `eval`.
_GRAMMAR = (ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
_EXCLUDED = (ast.LShift, ast.RShift, ast.BitOr, ast.BitAnd, ast.BitXor, ast.MatMult, ast.Invert, ast.Not)
_LONGEST, _LARGEST, _MOST_POWER = 100, 100_000, 32
_FIELDS = {
    "version": ("version",),
    "MONAI's version": ("monai_version",),
    "intended use": ("intended_use",),
    "source of the data": ("data_source", "data_type"),
    "terms": ("copyright", "license", "licence"),
}


def check_metadata(file: str, data: Any, files: Mapping[str, int]) -> Iterator[Finding]:
    """Yield shapes that are not plain sums, and missing fields.

    Args:
        file: path of the metadata within the bundle.
        data: what it holds.
        files: paths of all files of the bundle.
    """
    if not isinstance(data, dict):
        yield make_finding("metadata-field", file, "", "it is missing, or not an object")
        return
    for name, keys in _FIELDS.items():
        if not any(data.get(key) for key in keys):
            yield make_finding("metadata-field", file, keys[0], f"no {name}")
    if not any(re.fullmatch(r"(licen[cs]e|copying)(\.\w+)?", path.rpartition("/")[2].lower()) for path in files):
        yield make_finding("metadata-field", "", "", "no file LICENSE")
    for item in list_items(file, data):
        # MONAI resolves metadata with the config: a label such as @run would start a run.
        if isinstance(item.value, str) and item.value.startswith(SIGNS):
            yield make_finding("metadata-sign", file, item.place, shorten(item.value))
        if item.key == "spatial_shape":
            for index, value in enumerate(item.value if isinstance(item.value, list) else [item.value]):
                if not is_plain_shape(value):
                    yield make_finding("shape-expression", file, f"{item.place}#{index}", shorten(value))


def is_plain_shape(value: object) -> bool:
    """Return whether an entry of a shape is a number, ``*``, or a sum of numbers, p and n.

    Example:
        >>> is_plain_shape("16 * 2**p"), is_plain_shape("9**9**9"), is_plain_shape("().__class__")
        (True, False, False)
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value is None or abs(value) <= _LARGEST
    if not isinstance(value, str) or len(value) > _LONGEST:
        return False
    if value == "*":
        return True
    try:
        nodes = list(ast.walk(ast.parse(value.strip(), mode="eval").body))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return all(map(_is_plain, nodes))


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in ("p", "n")
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and not abs(node.value) > _LARGEST
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        power = node.right
        known = isinstance(power, ast.Constant) and isinstance(power.value, int) and abs(power.value) <= _MOST_POWER
        return known or isinstance(power, ast.Name)
    return isinstance(node, _GRAMMAR) and not isinstance(node, _EXCLUDED)
