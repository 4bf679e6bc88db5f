"""The validated content of a COCO annotation file; problems in the file become findings, not exceptions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.issues import Issue


@dataclass(frozen=True)
class CocoImage:
    """An image as the file describes it."""

    image_id: str  #: its id, as text
    file_name: str  #: its path inside the folder of images, POSIX, without ``.`` and ``..``
    height: int  #: in pixels
    width: int  #: in pixels
    #: the path was absolute or led out of the folder, as on another computer: only its end can be looked for
    is_foreign: bool = False


@dataclass(frozen=True)
class CocoCategory:
    """A class of objects."""

    name: str
    supercategory: str = ""


@dataclass(frozen=True)
class CocoAnnotation:
    """One object, its shape safe to draw (see `pipeline.datasets.coco.segmentations`)."""

    annotation_id: str  #: its id, as text
    category_id: int  #: id of its class
    crowd: bool  #: the shape marks a group of objects (``iscrowd``)
    polygons: tuple[Sequence[float], ...] = ()  #: outlines ``(x0, y0, x1, y1, ...)`` in pixels; their union counts
    counts: Sequence[int] = ()  #: run lengths down the columns, background first; () for polygons


class AnnotationError(ValueError):
    """An image whose mask cannot be drawn completely, because of ``issue``."""

    def __init__(self, issue: Issue) -> None:
        super().__init__(issue.one_line().removeprefix("error "))
        self.issue = issue


@dataclass(frozen=True)
class CocoFile:
    """The content of an annotation file, in the order of the file."""

    name: str  #: path of the file in findings
    images: Mapping[str, CocoImage] = field(default_factory=dict)  #: the images by id
    #: the usable annotations of each image that has any
    annotations: Mapping[str, Sequence[CocoAnnotation]] = field(default_factory=dict)
    categories: Mapping[int, CocoCategory] = field(default_factory=dict)  #: the classes by id
    annotated: frozenset[str] = frozenset()  #: ids of the images that have annotations, usable or not
    #: errors of each image whose mask would be incomplete
    broken: Mapping[str, Sequence[Issue]] = field(default_factory=dict)
    licences: tuple[str, ...] = ()  #: the licences that the file names
    issues: tuple[Issue, ...] = ()  #: findings about the file itself

    def image(self, image_id: str) -> CocoImage:
        """Return an image whose annotations can all be drawn.

        Raises `AnnotationError` if the file is not an annotation file, does not name the image, or holds an annotation
        of it that cannot be drawn.
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
