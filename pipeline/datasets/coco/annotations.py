"""A COCO annotation file as data that can be believed: what is wrong in it becomes findings, not exceptions."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.datasets.strict_json import find_loose_json, parse_json
from pipeline.issues import InputError, Issue

# The largest public file, instances_train2017.json, has 448 MB.
MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class CocoImage:
    """An image as the file describes it.

    Args:
        image_id: its id, as text.
        file_name: path relative to the folder of images, POSIX, inside it.
        height: in pixels.
        width: in pixels.
    """

    image_id: str
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class CocoCategory:
    """A class of objects."""

    name: str
    supercategory: str = ""


@dataclass(frozen=True)
class CocoAnnotation:
    """One object, its shape safe to draw (see `pipeline.datasets.coco.segmentations`).

    Args:
        annotation_id: its id, as text.
        category_id: id of its class.
        crowd: the shape marks a group of objects (``iscrowd``).
        polygons: outlines ``(x0, y0, x1, y1, ...)`` in pixels; their union counts.
        counts: run lengths down the columns, background first; () for polygons.
    """

    annotation_id: str
    category_id: int
    crowd: bool
    polygons: tuple[Sequence[float], ...] = ()
    counts: Sequence[int] = ()


class AnnotationError(ValueError):
    """An image whose mask cannot be drawn as it was meant.

    Args:
        issue: the finding that is in the way.
    """

    def __init__(self, issue: Issue) -> None:
        super().__init__(issue.one_line().removeprefix("error "))
        self.issue = issue


@dataclass(frozen=True)
class CocoFile:
    """What an annotation file holds, in its own order.

    Args:
        name: the file, as findings shall name it.
        images: the images by id.
        annotations: the usable annotations of each image that has any.
        categories: the classes by id.
        annotated: ids of the images that have annotations, usable or not.
        broken: errors of each image of which not everything can be drawn.
        licences: the licences that the file names.
        issues: what is wrong with the file itself.
    """

    name: str
    images: Mapping[str, CocoImage] = field(default_factory=dict)
    annotations: Mapping[str, Sequence[CocoAnnotation]] = field(default_factory=dict)
    categories: Mapping[int, CocoCategory] = field(default_factory=dict)
    annotated: frozenset[str] = frozenset()
    broken: Mapping[str, Sequence[Issue]] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    issues: tuple[Issue, ...] = ()

    def image(self, image_id: str) -> CocoImage:
        """Return an image of which everything can be drawn.

        Raises:
            AnnotationError: the file is no annotation file, does not name the image, or holds an annotation of it
                that cannot be drawn.
        """
        if image_id in self.broken:
            raise AnnotationError(self.broken[image_id][0])
        if image_id not in self.images:
            whole = [issue for issue in self.issues if issue.code == "manifest-syntax"]
            unknown = Issue("coco-reference", "error", f"no image with the id {image_id}", path=self.name)
            raise AnnotationError(whole[0] if whole else unknown)
        return self.images[image_id]

    def used_categories(self) -> Counter[int]:
        """Return the number of usable annotations of each class that has any."""
        return Counter(a.category_id for annotations in self.annotations.values() for a in annotations)

    def unannotated(self) -> list[str]:
        """Return the ids of the images without any annotation."""
        return [image_id for image_id in self.images if image_id not in self.annotated]


def read_annotations(path: str | os.PathLike[str]) -> CocoFile:
    """Read a COCO annotation file; the same file is read once as long as its size and time stay the same.

    Args:
        path: the JSON file.

    Returns:
        What it holds. Whatever is wrong with its content is in ``issues``.

    Raises:
        InputError: the file cannot be opened, or is too large.
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
    """Read the bytes of a COCO annotation file.

    Args:
        content: JSON, UTF-8 with or without a byte order mark.
        name: the file, as findings shall name it.

    Example:
        >>> file = parse_annotations(b'{"images": [{"id": 1}], "annotations": [], "categories": []}', "a.json")
        >>> print(file.issues[0].one_line())
        error manifest-schema a.json [images[0]]: the key 'file_name' is missing
    """
    from pipeline.datasets.coco.records import read_records

    constants: list[str] = []
    try:
        data = _load(content, constants)
    except _DuplicateKeyError:
        return CocoFile(name, issues=_find_loose_issue(content, name))
    except (ValueError, RecursionError):
        return CocoFile(name, issues=tuple(replace(issue, path=name) for issue in parse_json(content)[1]))
    file = read_records(data, name)
    if constants and not any(issue.code == "coco-coordinate" for issue in file.issues):
        # Outside of coordinates, where the findings tell more, they are a matter of syntax.
        return replace(file, issues=(*_find_loose_issue(content, name), *file.issues))
    return file


class _DuplicateKeyError(ValueError):
    """A JSON object that has a key twice."""


def _load(content: bytes, constants: list[str]) -> Any:
    """Parse JSON; NaN and Infinity become floats and are noted, duplicate keys raise."""

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

    The scan that knows the line is too slow for good files, and `parse_json` too slow for files with many findings.
    """
    found = find_loose_json(content.decode("utf-8-sig"))
    return tuple(replace(issue, path=name) for issue in islice(found, 1))
