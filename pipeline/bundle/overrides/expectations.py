"""What a config expects under an id: from the default, from the arguments that it is passed to, and from limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pipeline.bundle.configs import Config
from pipeline.bundle.overrides.ids import MISSING, is_object, list_ids, look_up, split_id
from pipeline.bundle.overrides.literals import read_reference
from pipeline.bundle.overrides.signatures import Targets, read_signature
from pipeline.bundle.overrides.value_types import accepts, is_device, is_number, is_text, suits

# The smallest and the largest number that makes sense, by the name of an argument of MONAI, torch or ours.
_LIMITS: dict[str, tuple[float, float]] = {
    "max_epochs": (1, float("inf")),
    "batch_size": (1, float("inf")),
    "sw_batch_size": (1, float("inf")),
    "interval": (1, float("inf")),
    "num_workers": (0, float("inf")),
    "budget_minutes": (0, float("inf")),
    "cache_rate": (0, float("inf")),
    "lr": (0, float("inf")),
    "weight_decay": (0, float("inf")),
    "overlap": (0, 1),
    "threshold": (0, 1),
    "prob": (0, 1),
}
# Classes in words for people.
_WORDS = {str: "a text", int: "a whole number", float: "a number", Path: "a path", NoneType: "null"}


@dataclass(frozen=True)
class Expectation:
    """What may stand under an id."""

    default: Any  #: what the config has there, references followed; `MISSING` if nothing
    annotations: Sequence[Any] = ()  #: of the arguments that get the value
    limits: tuple[float, float] | None = None  #: smallest and largest number
    switches: bool = False  #: it decides whether a part of the config is disabled

    def allows(self, value: Any) -> bool:
        """Return whether a value is not certainly wrong."""
        if isinstance(self.default, bool) or self.switches:
            return isinstance(value, bool) or self._is_named(value)
        answers = [accepts(item, value) for item in self._list_trusted()]
        if False in answers:
            return False
        if isinstance(value, float) and not is_number(value):
            return False
        return True in answers or self.default is MISSING or suits(self.default, value) is not False

    def keeps_limits(self, value: Any) -> bool:
        """Return whether a number is neither too small nor too large."""
        return self.limits is None or not is_number(value) or self.limits[0] <= value <= self.limits[1]

    @property
    def is_text(self) -> bool:
        """Whether the config has a text there."""
        return is_text(self.default)

    def describe(self) -> str:
        """Return what is expected, in words."""
        named = [str(word) for item in self.annotations for word in _list_words(item)]
        if isinstance(self.default, bool) or self.switches or named:
            words = ["true, false"] if isinstance(self.default, bool) or self.switches or bool in self._flat() else []
            numbers = ["a whole number"] if int in self._flat() else []
            return f"one of {', '.join(dict.fromkeys([*words, *named, *numbers]))}" if named else "true or false"
        if is_number(self.default):
            whole = isinstance(self.default, int) and float not in self._flat()
            return f"{'a whole number' if whole else 'a number'} such as {self.default}"
        if is_text(self.default):
            return "a text such as a path" if self.default.startswith("$") else f"a text such as {self.default!r}"
        if isinstance(self.default, list):
            return f"a list such as {self.default}" if len(str(self.default)) < 40 else "a list"
        return self._describe_object()

    def _describe_object(self) -> str:
        if is_object(self.default):
            return "an object, {'_target_': CLASS, ...}, or a reference such as @losses#NAME"
        if isinstance(self.default, dict):
            return "a group of keys"
        if any(is_device(item) for item in self._flat()):
            return "a device such as cpu, cuda or cuda:1"
        kinds = sorted((item for item in self._flat() if isinstance(item, type)), key=lambda item: item is NoneType)
        return " or ".join(dict.fromkeys(_WORDS.get(kind, kind.__name__) for kind in kinds)) or "another value"

    def _flat(self) -> list[Any]:
        return [part for item in self.annotations for part in (get_args(item) or [item])]

    def _list_trusted(self) -> list[Any]:
        """Leave out annotations that would not even allow the default."""
        if self.default is MISSING or (isinstance(self.default, str) and self.default.startswith("$")):
            return list(self.annotations)
        return [
            item for item in self.annotations if accepts(item, self.default) is not False or is_object(self.default)
        ]

    def _is_named(self, value: Any) -> bool:
        """Return whether an annotation names a text, or allows what is neither bool nor text."""
        if isinstance(value, str):
            return value in [word for item in self.annotations for word in _list_words(item)]
        return any(accepts(item, value) for item in self.annotations)


def _list_words(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for inner in get_args(annotation) for word in _list_words(inner)]


class Expectations:
    """What a config expects under its ids.

    Args:
        config: with the overrides, because they may name other classes.
        base: without them; its values are the defaults.
        targets: finds the classes.
    """

    def __init__(self, config: Config, base: Config, targets: Targets) -> None:
        self._config, self._base, self._targets = config, base, targets
        self._users: dict[str, list[str]] = {}
        for name, value in list_ids(config):
            if reference := read_reference(value):
                self._users.setdefault(reference, []).append(name)

    def find(self, name: str) -> Expectation:
        """Return what is expected under an id."""
        places = self._follow("#".join(split_id(name)))
        annotations = [self._read_annotation(place) for place in places]
        limits = [_LIMITS[last] for place in places if (last := split_id(place)[-1]) in _LIMITS]
        return Expectation(
            resolve(self._base, look_up(self._base, name)),
            [item for item in annotations if item is not Parameter.empty],
            limits[0] if limits else None,
            any(split_id(place)[-1] == "_disabled_" for place in places),
        )

    def _follow(self, name: str) -> list[str]:
        """Return the id and all ids that refer to it, directly or through others."""
        found = [name]
        for place in found:
            found += [user for user in self._users.get(place, ()) if user not in found]
        return found

    def _read_annotation(self, place: str) -> Any:
        *parents, last = split_id(place)
        owner = look_up(self._config, "#".join(parents)) if parents else MISSING
        target = self._targets.find(owner["_target_"]) if isinstance(owner, Mapping) and is_object(owner) else None
        signature = read_signature(target) if target is not None else None
        return signature.annotations.get(last, Parameter.empty) if signature else Parameter.empty


def resolve(config: Config, value: Any) -> Any:
    """Follow a value that is a reference to what it names; a circle ends in `MISSING`.

    Example:
        >>> resolve({"a": "@b", "b": 3}, "@a")
        3
    """
    for _ in range(20):
        if not (reference := read_reference(value)):
            return value
        value = look_up(config, reference)
    return MISSING
