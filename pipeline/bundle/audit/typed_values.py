"""What the receiver adds to a bundle's configs: values on the command line, and config files that are named there."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.bundle.audit.finding import COMMAND_LINE, Finding
from pipeline.bundle.audit.language.config_reading import check_size, read_config_data


@dataclass(frozen=True)
class TypedValues:
    """Values and files that change a bundle's configs."""

    overrides: Mapping[str, Any]  #: values by id
    own: Mapping[str, bytes]  #: content of files by path

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each file, and of the values as JSON, so that an allow-list can name exactly these."""
        digests = {f"{COMMAND_LINE} {path}": hashlib.sha256(content).hexdigest() for path, content in self.own.items()}
        if self.overrides:
            text = json.dumps(to_data(self.overrides), sort_keys=True)
            digests[COMMAND_LINE] = hashlib.sha256(text.encode()).hexdigest()
        return digests

    def read(self) -> tuple[dict[str, Any], list[Finding]]:
        """Return the data by the names that findings give these places, and what cannot be read."""
        data: dict[str, Any] = {}
        findings: list[Finding] = []
        for path, content in self.own.items():
            name = f"{COMMAND_LINE} {path}"
            large = check_size(path, len(content))
            data[name], found = read_config_data(name, content) if large is None else (None, [large])
            findings += found
        if self.overrides:
            data[COMMAND_LINE] = to_data(self.overrides)
        return data, findings


def to_data(value: Any) -> Any:
    """Return a value as JSON has it; a command line's parser also makes tuples and sets, in which code may stand.

    Example:
        >>> to_data({"a": (1, "$x"), 2: {3}})
        {'a': [1, '$x'], '2': [3]}
    """
    if isinstance(value, Mapping):
        return {str(key): to_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_data(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)
