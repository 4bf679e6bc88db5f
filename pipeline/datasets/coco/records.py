"""From parsed JSON to a `CocoFile`: each row is checked on its own, and a bad row is a finding with its place."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

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
    "degenerate-polygon": "outlines that are no polygon are left out",
    "coco-bounds": "outlines wholly outside of their image are left out",
}


def read_records(data: Any, name: str) -> CocoFile:
    """Check and gather the rows of an annotation file.

    Args:
        data: the parsed JSON.
        name: the file, as findings shall name it.

    Returns:
        The file's usable rows and its findings: ``manifest-schema``, ``id-type``, ``duplicate-id``,
        ``duplicate-path``, ``path-escape``, ``backslash-path``, ``too-large``, ``coco-reference`` and those of
        `read_segmentation`.
    """
    return _Reader(data, name).read()


class _Reader:
    def __init__(self, data: Any, name: str) -> None:
        self.data, self.name = data, name
        self.issues: list[Issue] = []
        self.images: dict[str, CocoImage] = {}
        self.file_names: set[str] = set()
        self.categories: dict[int, CocoCategory] = {}
        self.annotations: defaultdict[str, list[CocoAnnotation]] = defaultdict(list)
        self.annotated: set[str] = set()
        self.annotation_ids: set[str] = set()
        self.broken: defaultdict[str, list[Issue]] = defaultdict(list)
        self.skipped: Counter[str] = Counter()

    def read(self) -> CocoFile:
        if not isinstance(self.data, dict):
            self._add("manifest-schema", f"expected a JSON object with images and annotations, got {show(self.data)}")
            return CocoFile(self.name, issues=tuple(self.issues))
        for place, row in self._rows("categories"):
            self._read_category(place, row)
        for place, row in self._rows("images"):
            self._read_image(place, row)
        for place, row in self._rows("annotations"):
            self._read_annotation(place, row)
        self._report_skipped()
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
                self._break(
                    row.get("image_id"), self._add("manifest-schema", f"the key {name!r} is missing", place, hint)
                )
            if not missing:
                yield place, row

    def _licences(self) -> Iterator[str]:
        """Yield the names in ``licenses``, which nothing depends on, so nothing in it is an error."""
        rows = self.data.get("licenses")
        for row in rows if isinstance(rows, list) else ():
            name = row.get("name") if isinstance(row, dict) else None
            if isinstance(name, str) and name.strip() and name.isprintable():
                yield name.strip()

    def _read_category(self, place: str, row: dict[str, Any]) -> None:
        number, name, group = row["id"], row["name"], row.get("supercategory")
        if type(number) is not int or abs(number) > 2**63:
            self._add("id-type", f"category id is {show(number)}, expected an integer", place)
        elif number in self.categories:
            self._add("duplicate-id", f"category id {number} occurs twice", place)
        elif not isinstance(name, str) or _FORBIDDEN.search(name):
            self._add("manifest-schema", f"name is {show(name)}, expected a text", place)
        else:
            usable = isinstance(group, str) and not _FORBIDDEN.search(group)
            self.categories[number] = CocoCategory(name, group if usable and isinstance(group, str) else "")

    def _read_image(self, place: str, row: dict[str, Any]) -> None:
        key = self._key(row["id"], "image id", place)
        if key is None:
            return
        if key in self.images or key in self.broken:
            issue = self._add("duplicate-id", f"image id {key} occurs twice", place, "masks of both would be mixed")
            self._break(row["id"], issue)
            return
        before = len(self.issues)
        file_name = self._file_name(row["file_name"], place)
        for name in ("height", "width"):
            if type(row[name]) is not int or row[name] < 1:
                self._add("manifest-schema", f"{name} is {show(row[name])}, expected an integer from 1", place)
        errors = [issue for issue in self.issues[before:] if issue.severity == "error"]
        if not errors and row["height"] * row["width"] > MAX_PIXELS:
            message = f"{show(row['height'])} x {show(row['width'])} pixels; the limit is {MAX_PIXELS}"
            errors = [self._add("too-large", message, place)]
        if errors:
            self.broken[key] += errors
        else:
            self.images[key] = CocoImage(key, file_name, row["height"], row["width"])

    def _file_name(self, value: Any, place: str) -> str:
        if not isinstance(value, str) or not value or _FORBIDDEN.search(value):
            self._add("manifest-schema", f"file_name is {show(value)}, expected a path", place)
            return ""
        if "\\" in value:
            message = f"file_name {show(value)} has backslashes, read as /"
            self._add("backslash-path", message, place, "write / in file names", severity="warning")
            value = value.replace("\\", "/")
        windows = PureWindowsPath(value)
        if windows.drive or windows.root or ".." in PurePosixPath(value).parts:
            self._add("path-escape", f"file_name {show(value)} leaves the folder of images", place)
        if value in self.file_names:
            hint = "give all annotations of a file to one image"
            self._add("duplicate-path", f"file_name {show(value)} occurs twice", place, hint)
        self.file_names.add(value)
        return PurePosixPath(value).as_posix()

    def _read_annotation(self, place: str, row: dict[str, Any]) -> None:
        before = len(self.issues)
        own_key = self._key(row["id"], "annotation id", place)
        if own_key in self.annotation_ids:
            self._add("duplicate-id", f"annotation id {own_key} occurs twice", place, "number the annotations anew")
        self.annotation_ids.add(own_key or "")
        image_key = self._key(row["image_id"], "image_id", place)
        if image_key is not None and image_key not in self.images and image_key not in self.broken:
            self._add("coco-reference", f"image_id {show(row['image_id'])} is no image of this file", place)
        category = row["category_id"]
        if type(category) is not int or category not in self.categories:
            message = f"category_id {show(category)} is no category of this file"
            self._add("coco-reference", message, place, "known: " + show(list(itertools.islice(self.categories, 5))))
        self._check_box(row.get("bbox"), place)
        crowd = row.get("iscrowd", 0)
        if crowd not in (0, 1) or type(crowd) is not int:
            self._add("manifest-schema", f"iscrowd is {show(crowd)}, expected 0 or 1", place)
        image = self.images.get(image_key or "")
        shape = self._read_shape(place, row["segmentation"], image) if image else None
        errors = [issue for issue in self.issues[before:] if issue.severity == "error"]
        if errors:
            for issue in errors:
                self._break(row["image_id"], issue)
        elif image and shape:
            self.annotated.add(image.image_id)
            self.annotations[image.image_id].append(
                CocoAnnotation(own_key or "", category, crowd == 1, shape.polygons, shape.counts)
            )

    def _read_shape(self, place: str, value: Any, image: CocoImage) -> Segmentation:
        shape = read_segmentation(value, image.height, image.width)
        if shape.flaw:
            self._add(shape.flaw.code, shape.flaw.message, place, shape.flaw.hint)
        self.skipped.update(flaw.code for flaw in shape.skipped)
        self.skipped["clipped"] += shape.clipped
        return shape

    def _check_box(self, box: Any, place: str) -> None:
        """Refuse a box that holds something else than finite numbers; what it says is not used."""
        if box is None:
            return
        if not isinstance(box, list) or not all(type(number) in (int, float) for number in box):
            self._add("manifest-schema", f"bbox is {show(box)}, expected four numbers", place)
        elif not all(abs(number) < math.inf for number in box):
            self._add("coco-coordinate", f"bbox is {show(box)}", place, "export the annotations again")

    def _key(self, value: Any, what: str, place: str) -> str | None:
        """Return an id as text, None for what is no id: 7 and "7" are the same, 7.0 is none."""
        if type(value) is int and abs(value) < 2**63:
            return str(value)
        if isinstance(value, str) and value.strip() and not _FORBIDDEN.search(value) and not set(value) & set("#/\\"):
            return value
        self._add("id-type", f"{what} is {show(value)}, expected an integer or a text without # and /", place)
        return None

    def _break(self, image_id: Any, issue: Issue) -> None:
        """Remember that not everything of an image can be drawn."""
        if isinstance(image_id, str) or type(image_id) is int:
            self.broken[str(image_id)].append(issue)
            self.annotated.add(str(image_id))

    def _report_skipped(self) -> None:
        clipped = self.skipped.pop("clipped", 0)
        for code, count in sorted(self.skipped.items()):
            self._add(code, f"{_LOSSY[code]}: {count}", severity="warning")
        if clipped:
            message = f"outlines that reach out of their image are cut at its border: {clipped}"
            self._add("coco-bounds", message, severity="warning")

    def _add(self, code: str, message: str, place: str = "", hint: str = "", severity: Any = "error") -> Issue:
        issue = Issue(code, severity, message, record=place, path=self.name, hint=hint)
        self.issues.append(issue)
        return issue
