"""Read typed fields of parsed JSON; wrong ones become findings with their place."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal

from pipeline.issues import Issue

# Control characters but tab and newline, separators of lines, marks of writing direction, and halves of characters.
_UNSHOWABLE = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TYPES: dict[type, str] = {str: "a text", int: "an integer", list: "a list", dict: "a JSON object"}


class FieldReader:
    """Reads fields and collects findings instead of stopping at the first; a wrong field gives its default.

    ``place`` is the position of an object in the file (``cases[12].label``), "" at the top.
    """

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def integer_keys(
        self, data: Mapping[str, Any], key: str, kind: type, *, place: str = "", wanted: str = ""
    ) -> dict[int, Any]:
        """Return an object whose keys are integers, and its values of one type."""
        table = self.get(data, key, place, dict)
        result = {}
        for name, value in table.items():
            here = f"{_join(place, key)}.{name}"
            if re.fullmatch(r"-?\d{1,18}", name):
                result[int(name)] = value
            else:
                self.wrong(here, "an integer as key", name)
            if not is_kind(value, kind):
                self.wrong(here, wanted or _TYPES[kind], value)
            self.require_showable(value, here)
        return result

    def choice(
        self, entry: Mapping[str, Any], key: str, place: str, allowed: tuple[str, ...], code: str = "manifest-schema"
    ) -> str:
        """Return one of the allowed texts, the first by default."""
        value = entry.get(key, allowed[0])
        if value not in allowed:
            near = difflib.get_close_matches(str(value).lower(), allowed, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else ""
            self.add(code, f"expected one of {', '.join(allowed)}, got {value!r}", _join(place, key), hint)
            return allowed[0]
        return str(value)

    def texts(self, entry: Mapping[str, Any], key: str, place: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self.get(entry, key, place, list, "a list of texts")
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.wrong(f"{_join(place, key)}[{index}]", "a text", item)
            self.require_showable(item, f"{_join(place, key)}[{index}]")
        return tuple(str(item) for item in value)

    def get(self, entry: Mapping[str, Any], key: str, place: str, kind: type, wanted: str = "") -> Any:
        """Return a value of a type, an empty one if the key is missing; ``wanted`` names the type in the finding."""
        value = entry.get(key, kind())
        if is_kind(value, kind):
            self.require_showable(value, _join(place, key))
            return value
        self.wrong(_join(place, key), wanted or _TYPES[kind], value)
        return kind()

    def require_showable(self, value: object, place: str) -> None:
        """Add a finding for a text that a screen would obey or cannot show; line breaks are allowed."""
        if isinstance(value, str) and _UNSHOWABLE.search(value):
            self.wrong(place, "a text without control characters", value)

    def check_keys(
        self, entry: Mapping[str, Any], place: str, required: tuple[str, ...], optional: tuple[str, ...]
    ) -> None:
        """Add findings for unknown and missing keys."""
        known = required + optional
        for key in entry:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
                self.add("manifest-schema", f"unknown key {key!r}", _join(place, key), hint)
        for key in required:
            if key not in entry:
                self.add("manifest-schema", f"the key {key!r} is missing", place or "manifest")

    def wrong(self, place: str, wanted: str, got: object) -> None:
        """Add ``manifest-schema`` with the expected and the actual value."""
        shown = repr(got) if len(repr(got)) <= 60 else f"{repr(got)[:57]}..."
        self.add("manifest-schema", f"expected {wanted}, got {shown}", place)

    def add(
        self, code: str, message: str, place: str, hint: str = "", severity: Literal["error", "warning"] = "error"
    ) -> None:
        """Add a finding."""
        self.issues.append(Issue(code, severity, message, record=place, hint=hint))


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def is_kind(value: object, kinds: type | tuple[type, ...]) -> bool:
    """Return whether a value has a type; true and false are not numbers, although bool is a subclass of int."""
    return isinstance(value, kinds) and not isinstance(value, bool)
