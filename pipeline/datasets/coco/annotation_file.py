"""Read COCO annotation files, with a cache of the last few."""

import functools
import json
import os
import threading
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.datasets.coco.annotations import CocoFile
from pipeline.datasets.coco.records import read_records
from pipeline.datasets.manifests.strict_json import find_loose_json, parse_json
from pipeline.issues import InputError, Issue

# The largest public file, instances_train2017.json, has 448 MB.
MAX_BYTES = 1 << 30


def read_annotations(path: str | os.PathLike[str]) -> CocoFile:
    """Read a COCO annotation file; a file with the same size and time as before comes from the cache.

    Problems with its content are in ``issues`` of the result. Raises `InputError` if it cannot be opened, or is too
    large.
    """
    try:
        state = os.stat(path)
        if state.st_size > MAX_BYTES:
            raise InputError(f"too-large {path}: {state.st_size} bytes of annotations; the limit is {MAX_BYTES}")
        with _READING:
            return _read(str(path), state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise InputError(f"cannot read the annotations {path}: {error.strerror}") from None
    except MemoryError:
        raise InputError(f"too-large {path}: the annotations do not fit into memory; split the file") from None


# Threads that want the same file wait for the first to read it.
_READING = threading.Lock()


@functools.lru_cache(maxsize=8)
def _read(path: str, _modified: int, _size: int) -> CocoFile:
    return parse_annotations(Path(path).read_bytes(), path)


def parse_annotations(content: bytes, name: str) -> CocoFile:
    """Read the bytes of a COCO annotation file, UTF-8 with or without a byte order mark; findings name it ``name``.

    Example:
        >>> file = parse_annotations(b'{"images": [{"id": 1}], "annotations": [], "categories": []}', "a.json")
        >>> print(file.issues[0].one_line())
        error manifest-schema a.json [images[0]]: the key 'file_name' is missing
    """
    constants: list[str] = []
    try:
        data = _load(content, constants)
    except _DuplicateKeyError:
        return CocoFile(name, issues=_find_loose_issue(content, name))
    except (ValueError, RecursionError):
        return CocoFile(name, issues=tuple(replace(issue, path=name) for issue in parse_json(content)[1]))
    file = read_records(data, name)
    if constants and not any(issue.code == "coco-coordinate" for issue in file.issues):
        # Outside of coordinates, whose findings are more specific, they are syntax errors.
        return replace(file, issues=(*_find_loose_issue(content, name), *file.issues))
    return file


class _DuplicateKeyError(ValueError):
    """A JSON object that has a key twice."""


def _load(content: bytes, constants: list[str]) -> Any:
    """Parse JSON; NaN and Infinity become floats and are recorded, duplicate keys raise."""

    def keep_constant(text: str) -> float:
        constants.append(text)
        return float(text)

    return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_make_object, parse_constant=keep_constant)


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _DuplicateKeyError
    return made


def _find_loose_issue(content: bytes, name: str) -> tuple[Issue, ...]:
    """Return the first duplicate key, NaN or Infinity, with its line and column.

    The scan that finds the line is too slow for good files, and `parse_json` too slow for files with many findings.
    """
    found = find_loose_json(content.decode("utf-8-sig"))
    return tuple(replace(issue, path=name) for issue in islice(found, 1))
