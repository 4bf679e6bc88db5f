"""What a ``$`` expression of a config may hold: no more than ``architecture.md`` of the project's design allows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

CALLS = {"device", "from_engine", "is_available", "parameters", "run", "set_determinism", "to"}
IMPORTS = {"monai", "torch"}
NODES = (
    ast.Expression,
    ast.Attribute,
    ast.BinOp,
    ast.Add,
    ast.Call,
    ast.Constant,
    ast.IfExp,
    ast.Compare,
    ast.Eq,
    ast.Gt,
    ast.List,
    ast.Load,
    ast.Name,
    ast.keyword,
)


def list_texts(item: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """List every text of a config with its id."""
    if isinstance(item, dict):
        for key, value in item.items():
            yield from list_texts(value, f"{where}#{key}" if where else key)
    elif isinstance(item, list):
        for index, value in enumerate(item):
            yield from list_texts(value, f"{where}#{index}")
    elif isinstance(item, str):
        yield where, item


def find_references(text: str) -> set[str]:
    """Find the ids that a text refers to."""
    if not text.startswith(("@", "$", "%")):
        return set()
    return {match.replace("::", "#") for match in re.findall(r"[@%]([A-Za-z_]\w*(?:(?:#|::)\w+)*)", text)}


def find_faults(expression: str) -> list[str]:
    """List what the expression (without its ``$``) holds and must not."""
    if re.fullmatch(r"import (\w+)", expression):
        module = expression.split()[1]
        return [] if module in IMPORTS else [f"import of {module}"]
    tree = ast.parse(
        re.sub(r"@([A-Za-z_]\w*(?:(?:#|::)\w+)*)", lambda m: re.sub(r"\W", "_", m[1]), expression), mode="eval"
    )
    faults = [type(node).__name__ for node in ast.walk(tree) if not isinstance(node, NODES)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Attribute) and node.func.attr in CALLS):
            faults.append(f"call of {ast.unparse(node.func)}")
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            faults.append(f"private name {node.attr}")
    return faults
