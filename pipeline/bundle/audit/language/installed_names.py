"""Find where the installed packages define a name, by reading their sources: nothing is imported.

Importing would run the module that a hostile name leads to, and MONAI alone takes seconds.
"""

import ast
import functools
import importlib.machinery
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pipeline

#: Packages whose sources are read to follow a name.
FOLLOWED = ("monai", "torch", "ignite", "numpy", "pipeline")
_MOST_STEPS = 24
_DEFINITION = re.compile(
    r"^(?:class|def|async def) +(\w+)|^((?:\w+ = )+\(?\s*(?:\w+ = *\s*)*)(?:\w+\s*\)?$|lambda\b)", re.MULTILINE
)

Kind = Literal["class", "function", "module", "member", "value", "attribute", "outside", "missing"]


@dataclass(frozen=True)
class Place:
    """Where a name is defined."""

    #: ``"value"`` is assigned, ``"attribute"`` belongs to a value, ``"member"`` to a class; ``"outside"`` is elsewhere
    kind: Kind
    name: str  #: module and qualified name there


@functools.cache
def find_package(root: str) -> Path | None:
    """Return the folder of an installed package, never one in the current folder."""
    if root == "pipeline":
        return Path(pipeline.__file__).parent
    here = Path.cwd()
    places = [place for place in sys.path if place and Path(place).resolve() != here]
    spec = importlib.machinery.PathFinder.find_spec(root, places)
    return Path(spec.origin).parent if spec and spec.origin and Path(spec.origin).stem == "__init__" else None


@functools.cache
def find_module(name: str) -> Path | None:
    """Return the source of a module of a followed package."""
    root, *parts = name.split(".")
    folder = find_package(root) if root in FOLLOWED else None
    if folder is None:
        return None
    path = folder.joinpath(*parts)
    return next((file for file in (path / "__init__.py", path.with_name(f"{path.name}.py")) if file.is_file()), None)


def locate_statically(dotted: str) -> frozenset[Place]:
    """Return where a dotted name can lead; several places if branches of a module differ.

    As in Python, a name that a package binds hides the module of the same name in it.

    Example:
        >>> [place.name for place in locate_statically("monai.transforms.Resized")]
        ['monai.transforms.spatial.dictionary.Resized']
        >>> locate_statically("monai.utils.module.sys.exit")
        frozenset({Place(kind='outside', name='sys.exit')})
    """
    root, *rest = dotted.split(".")
    return frozenset(_locate(root, rest, _MOST_STEPS))


def _locate(module: str, rest: list[str], steps: int) -> Iterator[Place]:
    """Yield where names lead from a module."""
    full = ".".join([module, *rest])
    if module.partition(".")[0] not in FOLLOWED:
        yield Place("outside", full)
    elif find_module(module) is None or not steps:
        yield Place("missing", full)
    elif not rest:
        yield Place("module", module)
    elif _is_submodule(module, rest[0]):
        yield from _locate(f"{module}.{rest[0]}", rest[1:], steps)
    else:
        yield from _follow(module, rest, steps - 1)


def _is_submodule(package: str, name: str) -> bool:
    full = f"{package}.{name}"
    if find_module(full) is None:
        return False
    # torch's own file is long, and it hides none of its modules.
    bound = _read_bindings(package).get(name, set()) if package != "torch" else set()
    return not bound - {("import", full), ("from", f"{package}:{name}")}


def _follow(module: str, rest: list[str], steps: int) -> Iterator[Place]:
    full = ".".join([module, *rest])
    bindings = _read_bindings(module)
    for kind, text in bindings.get(rest[0], ()):
        if kind in ("class", "function"):
            known: Kind = "class" if kind == "class" else "function"
            yield Place("member" if rest[1:] else known, full)
        elif kind == "value":
            yield Place("attribute" if rest[1:] else "value", full)
        elif kind == "alias":
            yield from _locate(module, [*text.split("."), *rest[1:]], steps)
        else:
            source, _, name = text.partition(":")
            yield from _locate(source, [*filter(None, [name]), *rest[1:]], steps)
    if rest[0] not in bindings:
        stars = [text.partition(":")[0] for _, text in bindings.get("*", ())]
        places = [place for star in stars for place in _locate(star, rest, steps)]
        yield from [place for place in places if place.kind != "missing"] or [Place("missing", full)]


@functools.cache
def _read_bindings(module: str) -> dict[str, set[tuple[str, str]]]:
    """Return what each name of a module can be bound to: kind, and what it leads to."""
    path = find_module(module)
    bindings: dict[str, set[tuple[str, str]]] = {}
    if path is not None:
        package = module if path.stem == "__init__" else module.rpartition(".")[0]
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:  # written for a newer Python; nothing in it can be followed
            return bindings
        for name, kind, text in _bind(tree.body, package):
            bindings.setdefault(name, set()).add((kind, text))
    return bindings


def _bind(body: list[ast.stmt], package: str) -> Iterator[tuple[str, str, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node.name, "class", ""
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, "function", ""
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from _bind_import(node, package)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from _bind_assignment(node)
        else:
            for inner in ("body", "orelse", "finalbody"):
                yield from _bind(getattr(node, inner, []), package)
            for handler in getattr(node, "handlers", []):
                yield from _bind(handler.body, package)


def _bind_import(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name if alias.asname else alias.name.partition(".")[0]
            yield alias.asname or top, "import", top
        return
    base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    source = ".".join([*base, *([node.module] if node.module else [])])
    for alias in node.names:
        if alias.name == "*":
            yield "*", "from", source
        else:
            yield alias.asname or alias.name, "from", f"{source}:{alias.name}"


def _bind_assignment(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[str, str, str]]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    value = node.value
    kind, text = "value", ""
    # optional_import(...)[0] is the module, too.
    value = value.value if isinstance(value, ast.Subscript) else value
    if isinstance(value, ast.Name | ast.Attribute) and _is_chain(value):
        kind, text = "alias", ast.unparse(value)
    elif isinstance(value, ast.Lambda):
        kind, text = "function", "lambda"
    elif isinstance(value, ast.Call) and ast.unparse(value.func).endswith("optional_import"):
        kind, text = "import", _read_optional(value)
    for target in targets:
        names = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        for position, name in enumerate(names):
            if isinstance(name, ast.Name):
                known = position == 0 and text and (kind, text) != ("alias", name.id)
                yield (name.id, kind, text) if known else (name.id, "value", "")


def _is_chain(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _read_optional(call: ast.Call) -> str:
    """Return the module and, after a colon, the name that MONAI's ``optional_import`` imports."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    module = call.args[0] if call.args else given.get("module")
    name = given.get("name")
    texts = [item.value for item in (module, name) if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    return ":".join(text for text in texts if text)


@functools.cache
def list_short_names() -> dict[str, tuple[str, ...]]:
    """Return MONAI's classes and functions with the modules that define them, as its ``ComponentLocator`` does."""
    folder = find_package("monai")
    table: dict[str, list[str]] = {}
    if folder is None:
        return {}
    for path in sorted(folder.rglob("*.py")):
        module = ".".join(("monai", *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
        for found in _DEFINITION.finditer(path.read_text(encoding="utf-8")):
            for name in [found[1]] if found[1] else re.findall(r"\w+(?= =)", found[2]):
                if module not in table.setdefault(name, []):
                    table[name].append(module)
    return {name: tuple(modules) for name, modules in table.items()}
