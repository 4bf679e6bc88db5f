"""The classes that configs name, and the arguments that they take."""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pydoc import ErrorDuringImport, locate
from typing import Any

from pipeline.bundle.config_files import suggest_name


@dataclass(frozen=True)
class Signature:
    """The arguments of a class or function."""

    annotations: Mapping[str, Any] = field(default_factory=dict)  #: by argument; `inspect.Parameter.empty` if none
    required: frozenset[str] = frozenset()  #: those without default
    is_open: bool = False  #: it takes more arguments than it names
    result: Any = inspect.Parameter.empty  #: annotation of what a function returns


@functools.cache
def _load_locator() -> Any:
    """Return MONAI's table of its components, which takes long to make; all are loaded with the first import."""
    from monai.bundle import ComponentLocator

    return ComponentLocator()


class Targets:
    """Finds what ``_target_`` names: MONAI's components by their short names, everything else by its full path."""

    def __init__(self) -> None:
        self._found: dict[str, Callable[..., Any] | None] = {}

    def find(self, name: Any) -> Callable[..., Any] | None:
        """Return the class or function; None if there is none or the name is an expression."""
        if not isinstance(name, str):
            return None
        if name not in self._found:
            try:
                found = locate(name) if "." in name else self._find_component(name)
            except ErrorDuringImport:
                found = None
            self._found[name] = found if callable(found) else None
        return self._found[name]

    def suggest(self, name: str) -> str:
        """Return the end of a message about a name that leads nowhere."""
        module = name.rpartition(".")[0]
        if not module:
            return suggest_name(name, self._list_components(), most=3)
        try:
            place = locate(module)
        except ErrorDuringImport:
            place = None
        known = [word for word in dir(place) if not word.startswith("_")] if place is not None else []
        return suggest_name(name, [f"{module}.{word}" for word in known], most=3) if known else f"no module {module}"

    def _find_component(self, name: str) -> Any:
        modules = _load_locator().get_component_module_name(name)
        module = modules[0] if isinstance(modules, list) and modules else modules
        return getattr(sys.modules.get(str(module)), name, None) if module else locate(name)

    def _list_components(self) -> list[str]:
        self._find_component("Compose")  # fills the table
        return list(_load_locator()._components_table or ())


@functools.cache
def read_signature(target: Callable[..., Any]) -> Signature | None:
    """Return the arguments of a class or function; None if Python does not know them.

    What a class passes on with ``**kwargs`` is looked up in its base classes.

    Example:
        >>> signature = read_signature(Targets.suggest)
        >>> sorted(signature.annotations), sorted(signature.required), signature.is_open
        (['name', 'self'], ['name', 'self'], False)
    """
    found = _read_own(target)
    if found is None or not found.is_open or not isinstance(target, type):
        return found
    annotations = dict(found.annotations)
    for base in target.__mro__[1:]:
        inherited = _read_own(base) if "__init__" in vars(base) and base is not object else None
        annotations = {**(inherited.annotations if inherited else {}), **annotations}
    return Signature(annotations, found.required, found.is_open, found.result)


def _read_own(target: Callable[..., Any]) -> Signature | None:
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return None
    parameters = signature.parameters.values()
    named = [item for item in parameters if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)]
    names = _read_globals(target)
    return Signature(
        {item.name: _evaluate(item.annotation, names) for item in named},
        frozenset(item.name for item in named if item.default is item.empty),
        any(item.kind is item.VAR_KEYWORD for item in parameters),
        _evaluate(signature.return_annotation, names),
    )


def _read_globals(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the names that annotations written as text refer to."""
    function: Any = getattr(target, "__init__", None) if inspect.isclass(target) else target
    if hasattr(function := inspect.unwrap(function), "__globals__"):
        return dict(function.__globals__)
    return dict(vars(sys.modules.get(target.__module__, sys)))


def _evaluate(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)
    except Exception:  # an import for the type checker alone
        return inspect.Parameter.empty
