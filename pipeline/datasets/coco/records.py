"""From parsed JSON to a `CocoFile`: rows are checked one by one, and a bad row becomes a finding with its place."""

import itertools
import math
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import PureWindowsPath
from typing import Any, TypeGuard

from pipeline.datasets.coco.annotations import CocoAnnotation, CocoCategory, CocoFile, CocoImage
from pipeline.datasets.coco.segmentations import Segmentation, read_segmentation, show
from pipeline.datasets.probes import MAX_PIXELS
from pipeline.issues import Issue

_FORBIDDEN = re.compile(r"[\0-\x1f\x7f\ud800-\udfff]")
_REQUIRED = {
    "images": ("id", "file_name", "height", "width"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "segmentation"),
}
_LOSSY = {
    "coco-bounds": "outlines entirely outside their image are left out",
    "degenerate-polygon": "outlines that are not polygons are left out",
    "clipped": "outlines that extend beyond their image are cut at its border",
}
_SPELLING = {
    "backslash-path": "write / in file names",
    "path-escape": "write file names relative to the folder of images",
}
_INTEGER_LIMIT = 2**63


def read_records(data: Any, name: str) -> CocoFile:
    """Check and gather the rows of an annotation file, parsed JSON; findings name it ``name``.

    The findings are ``manifest-schema``, ``id-type``, ``duplicate-id``, ``duplicate-path``, ``path-escape``,
    ``backslash-path``, ``too-large``, ``coco-reference`` and those of `read_segmentation`.
    """
    return _Reader(data, name).read()


class _Reader:
    def __init__(self, data: Any, name: str) -> None:
        self.data, self.name = data, name
        self.issues: list[Issue] = []
        self.images: dict[str, CocoImage] = {}
        self.file_names: dict[str, str] = {}
        self.categories: dict[int, CocoCategory] = {}
        self.annotations: defaultdict[str, list[CocoAnnotation]] = defaultdict(list)
        self.annotated: set[str] = set()
        self.annotation_ids: set[str] = set()
        self.broken: defaultdict[str, list[Issue]] = defaultdict(list)
        self.skipped: Counter[str] = Counter()
        self.spelt: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)

    def read(self) -> CocoFile:
        if not isinstance(self.data, dict):
            self._add("manifest-schema", f"expected a JSON object with images and annotations, got {show(self.data)}")
            return CocoFile(self.name, issues=tuple(self.issues))
        readers = {"categories": self._read_category, "images": self._read_image, "annotations": self._read_annotation}
        for key, read_row in readers.items():
            for place, row in self._rows(key):
                read_row(place, row)
        for code, found in self.spelt.items():
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            place, message = found[0]
            self._add(code, message + more, place, _SPELLING[code], severity="warning")
        for key in filter(self.skipped.get, _LOSSY):
            code = "coco-bounds" if key == "clipped" else key
            self._add(code, f"{_LOSSY[key]}: {self.skipped[key]}", severity="warning")
        return CocoFile(
            name=self.name,
            images=self.images,
            annotations=dict(self.annotations),
            categories=self.categories,
            annotated=frozenset(self.annotated),
            broken=dict(self.broken),
            licences=tuple(self._licences()),
            issues=tuple(self.issues),
        )

    def _rows(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        rows = self.data.get(key)
        if not isinstance(rows, list):
            problem = f"expected a list, got {show(rows)}" if key in self.data else f"the key {key!r} is missing"
            self._add("manifest-schema", problem, key, "is this a COCO annotation file?")
            return
        for index, row in enumerate(rows):
            place = f"{key}[{index}]"
            if not isinstance(row, dict):
                self._add("manifest-schema", f"expected a JSON object, got {show(row)}", place)
                continue
            missing = [name for name in _REQUIRED[key] if name not in row]
            for name in missing:
                hint = "boxes alone hold no outlines" if name == "segmentation" else ""
                issue = self._add("manifest-schema", f"the key {name!r} is missing", place, hint)
                self._break(row.get("image_id"), issue)
            if not missing:
                yield place, row

    def _licences(self) -> Iterator[str]:
        """Yield the names in ``licenses``; nothing in it is an error, because nothing depends on it."""
        rows = self.data.get("licenses")
        for row in rows if isinstance(rows, list) else ():
            name = row.get("name") if isinstance(row, dict) else None
            if isinstance(name, str) and name.strip() and name.isprintable():
                yield name.strip()

    def _read_category(self, place: str, row: dict[str, Any]) -> None:
        number, name, group = row["id"], row["name"], row.get("supercategory")
        if type(number) is not int or abs(number) > _INTEGER_LIMIT:
            self._add("id-type", f"category id is {show(number)}, expected an integer", place)
        elif number in self.categories:
            self._add("duplicate-id", f"category id {number} occurs twice", place)
        elif not _is_text(name):
            self._add("manifest-schema", f"name is {show(name)}, expected a text", place)
        else:
            self.categories[number] = CocoCategory(name, group if _is_text(group) else "")

    def _read_image(self, place: str, row: dict[str, Any]) -> None:
        key = self._key(row["id"], "image id", place)
        if key is None:
            return
        if key in self.images or key in self.broken:
            issue = self._add("duplicate-id", f"image id {key} occurs twice", place, "masks of both would be mixed")
            self._break(row["id"], issue)
            return
        before = len(self.issues)
        file_name, is_foreign = self._file_name(row["file_name"], place, key)
        for name in ("height", "width"):
            if type(row[name]) is not int or row[name] < 1:
                self._add("manifest-schema", f"{name} is {show(row[name])}, expected an integer from 1", place)
        errors = self._errors_since(before)
        if not errors and row["height"] * row["width"] > MAX_PIXELS:
            message = f"{show(row['height'])} x {show(row['width'])} pixels; the limit is {MAX_PIXELS}"
            errors = [self._add("too-large", message, place)]
        if errors:
            self.broken[key] += errors
        else:
            self.images[key] = CocoImage(key, file_name, row["height"], row["width"], is_foreign)

    def _file_name(self, value: Any, place: str, key: str) -> tuple[str, bool]:
        """Return the path in one spelling, and whether it is of another computer."""
        if not _is_text(value) or not value:
            self._add("manifest-schema", f"file_name is {show(value)}, expected a path", place)
            return "", False
        if "\\" in value:
            self.spelt["backslash-path"].append((place, f"file_name {show(value)} has backslashes, read as /"))
        path = value.replace("\\", "/")
        windows = PureWindowsPath(path)
        parts = posixpath.normpath(path[len(windows.drive) :].lstrip("/")).split("/")
        is_foreign = bool(windows.drive or windows.root) or parts[0] == ".."
        inside = [part for part in parts if part != ".."]
        if is_foreign:
            message = (
                f"file_name {show(value)} leaves the folder of images; its end is looked for in the dataset's folder"
            )
            self.spelt["path-escape"].append((place, message))
        name = "/".join(inside)
        if name in ("", "."):
            self._add("manifest-schema", f"file_name is {show(value)}, expected a path", place)
        elif name in self.file_names:
            hint = "give all annotations of a file to one image"
            issue = self._add("duplicate-path", f"file_name {show(value)} occurs twice", place, hint)
            self._break(self.file_names[name], issue)
        self.file_names.setdefault(name, key)
        return name, is_foreign

    def _read_annotation(self, place: str, row: dict[str, Any]) -> None:
        before = len(self.issues)
        own_key = self._key(row["id"], "annotation id", place)
        if own_key in self.annotation_ids:
            self._add("duplicate-id", f"annotation id {own_key} occurs twice", place, "renumber the annotations")
        self.annotation_ids.add(own_key or "")
        image = self._find_image(row["image_id"], place)
        self._check_fields(row, place)
        shape = self._read_shape(place, row["segmentation"], image) if image else None
        errors = self._errors_since(before)
        for issue in errors:
            self._break(row["image_id"], issue)
        if image and shape and not errors:
            self.annotated.add(image.image_id)
            crowd = row.get("iscrowd", 0) == 1
            annotation = CocoAnnotation(own_key or "", row["category_id"], crowd, shape.polygons, shape.counts)
            self.annotations[image.image_id].append(annotation)

    def _find_image(self, image_id: Any, place: str) -> CocoImage | None:
        key = self._key(image_id, "image_id", place)
        if key is not None and key not in self.images and key not in self.broken:
            self._add("coco-reference", f"image_id {show(image_id)} is not an image of this file", place)
        return self.images.get(key or "")

    def _check_fields(self, row: dict[str, Any], place: str) -> None:
        category, crowd = row["category_id"], row.get("iscrowd", 0)
        if type(category) is not int or category not in self.categories:
            message = f"category_id {show(category)} is not a category of this file"
            self._add("coco-reference", message, place, "known: " + show(list(itertools.islice(self.categories, 5))))
        self._check_box(row.get("bbox"), place)
        if crowd not in (0, 1) or type(crowd) is not int:
            self._add("manifest-schema", f"iscrowd is {show(crowd)}, expected 0 or 1", place)

    def _read_shape(self, place: str, value: Any, image: CocoImage) -> Segmentation:
        shape = read_segmentation(value, image.height, image.width)
        if shape.flaw:
            self._add(shape.flaw.code, shape.flaw.message, place, shape.flaw.hint)
        self.skipped.update(flaw.code for flaw in shape.skipped)
        self.skipped["clipped"] += shape.clipped
        return shape

    def _check_box(self, box: Any, place: str) -> None:
        """Refuse a box of anything but finite numbers; its values are not used."""
        if box is None:
            return
        if not isinstance(box, list) or not all(type(number) in (int, float) for number in box):
            self._add("manifest-schema", f"bbox is {show(box)}, expected four numbers", place)
        elif not all(abs(number) < math.inf for number in box):
            self._add("coco-coordinate", f"bbox is {show(box)}", place, "export the annotations again")

    def _key(self, value: Any, what: str, place: str) -> str | None:
        """Return an id as text, None for other values: 7 and "7" are the same id, 7.0 is not an id."""
        if type(value) is int and abs(value) < _INTEGER_LIMIT:
            return str(value)
        if _is_text(value) and value.strip() and not set(value) & set("#/\\"):
            return str(value)
        self._add("id-type", f"{what} is {show(value)}, expected an integer or a text without # and /", place)
        return None

    def _break(self, image_id: Any, issue: Issue) -> None:
        """Record that the mask of an image would be incomplete."""
        if isinstance(image_id, str) or type(image_id) is int:
            self.broken[str(image_id)].append(issue)
            self.annotated.add(str(image_id))

    def _errors_since(self, before: int) -> list[Issue]:
        return [issue for issue in self.issues[before:] if issue.severity == "error"]

    def _add(self, code: str, message: str, place: str = "", hint: str = "", severity: Any = "error") -> Issue:
        issue = Issue(code, severity, message, record=place, path=self.name, hint=hint)
        self.issues.append(issue)
        return issue


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and not _FORBIDDEN.search(value)
