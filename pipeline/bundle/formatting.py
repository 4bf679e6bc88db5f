"""Format config JSON: whatever fits into one line stands on one line."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.bundle.config_files import list_configs, read_json
from pipeline.issues import InputError

LINE_WIDTH = 110
_INDENT = 4


def format_config(data: Any) -> str:
    """Return a config as JSON text: a list or object that fits into 110 characters stands on one line.

    The indentation, the key and the comma of that line count. Keys keep their order; the text ends with a newline.

    Args:
        data: a value that JSON can hold.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: a value is not one of JSON's types.

    Example:
        >>> print(format_config({"lr": 0.1, "roi_size": [96, 96], "keys": ["a" * 50, "b" * 60]}), end="")
        {
            "lr": 0.1,
            "roi_size": [96, 96],
            "keys": [
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
            ]
        }
    """
    return _render(data, depth=0, taken=0) + "\n"


def format_files(paths: Sequence[Path], *, check: bool = False) -> list[Path]:
    """Format config files in place.

    All files are read before the first one is written.

    Args:
        paths: JSON files; a folder stands for the bundle in it, that is ``configs/*.json`` without a manifest.
        check: change nothing.

    Returns:
        The files whose text differs from their format.

    Raises:
        InputError: a file is missing, is not valid JSON, or has a duplicate key; a folder holds no configs.
    """
    changed = {path: text for path in _list_files(paths) if (text := _format_file(path)) is not None}
    for path, text in changed.items() if not check else ():
        with write_atomically(path) as stream:
            stream.write(text)
    return list(changed)


def _render(value: Any, *, depth: int, taken: int) -> str:
    """Return the text of a value whose line already holds ``taken`` characters, its comma included."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not value or not isinstance(value, dict | list | tuple) or taken + len(line) <= LINE_WIDTH:
        return line
    margin = " " * _INDENT * (depth + 1)
    named = isinstance(value, dict)
    items = [(f"{json.dumps(key, ensure_ascii=False)}: ", value[key]) if named else ("", key) for key in value]
    lines = []
    for number, (name, item) in enumerate(items, 1):
        comma = "," if number < len(items) else ""
        taken = len(margin) + len(name) + len(comma)
        lines.append(f"{margin}{name}{_render(item, depth=depth + 1, taken=taken)}{comma}")
    start, end = "{}" if named else "[]"
    return "\n".join([start, *lines, " " * _INDENT * depth + end])


def _list_files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        configs = list_configs(path / "configs")
        if not configs:
            raise InputError(f"{path}: holds no configs/*.json; name a bundle's folder or a JSON file")
        yield from configs


def _format_file(path: Path) -> str | None:
    """Return the formatted text of a file, None if the file has it already."""
    text = format_config(read_json(path))
    return None if text.encode() == path.read_bytes() else text
