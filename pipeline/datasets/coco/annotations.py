"""The validated content of a COCO annotation file; problems in the file become findings, not exceptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.issues import Issue


@dataclass(frozen=True)
class CocoImage:
    """An image as the file describes it: id as text, POSIX path inside the folder of images, size in pixels."""

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
    """An image whose mask cannot be drawn completely, because of ``issue``."""

    def __init__(self, issue: Issue) -> None:
        super().__init__(issue.one_line().removeprefix("error "))
        self.issue = issue


@dataclass(frozen=True)
class CocoFile:
    """The content of an annotation file, in the order of the file.

    Args:
        name: path of the file in findings.
        images: the images by id.
        annotations: the usable annotations of each image that has any.
        categories: the classes by id.
        annotated: ids of the images that have annotations, usable or not.
        broken: errors of each image whose mask would be incomplete.
        licences: the licences that the file names.
        issues: findings about the file itself.
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
        """Return an image whose annotations can all be drawn.

        Raises:
            AnnotationError: the file is not an annotation file, does not name the image, or holds an annotation of it
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
