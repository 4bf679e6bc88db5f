"""Draw masks with pycocotools, which receives validated annotations only."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from pipeline.datasets.coco.annotations import AnnotationError, CocoAnnotation, CocoFile, CocoImage
from pipeline.issues import Issue

Crowd = Literal["ignore", "merge"]
MAX_INSTANCES = 65535
NO_LABEL_HINT = "add it to coco.categories of the manifest, with label 0 to leave it out"


def rasterise(
    file: CocoFile, image_id: str, categories: Mapping[int, int], crowd: Crowd = "ignore", instances: bool = False
) -> Any:
    """Draw the mask of an image.

    Annotations are drawn in the order of the file, later ones over earlier ones. A pixel belongs to a polygon as in
    pycocotools, so that scores agree with the COCO tools.

    Args:
        file: the annotations.
        image_id: id of the image.
        categories: label id of each category id; label 0 leaves the category out.
        crowd: ``"ignore"`` leaves out annotations marked ``iscrowd``, ``"merge"`` draws them like others.
        instances: number the objects 1, 2, ... in the order of the file instead of drawing their labels.

    Returns:
        Numpy array (H, W), rows first: label ids as uint8, or numbers of objects as uint16; 0 is background.

    Raises:
        AnnotationError: the mask would be incomplete, a category has no label, or there are too many objects.

    Example:
        >>> image = CocoImage("7", "a.png", height=3, width=4)
        >>> square = CocoAnnotation("1", 3, crowd=False, polygons=([1, 0, 3, 0, 3, 2, 1, 2],))
        >>> file = CocoFile("a.json", images={"7": image}, annotations={"7": [square]})
        >>> rasterise(file, "7", {3: 1}).tolist()
        [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    import numpy as np

    image = file.image(image_id)
    shapes = select_annotations(file, image_id, categories, crowd)
    mask = np.zeros((image.height, image.width), np.uint16 if instances else np.uint8)
    if instances:
        if len(shapes) > MAX_INSTANCES:
            message = f"{len(shapes)} objects in one image; the limit is {MAX_INSTANCES}"
            raise AnnotationError(Issue("label-values", "error", message, path=file.name))
        for number, annotation in enumerate(shapes, start=1):
            mask[_draw([annotation], image)] = number
        return mask
    # Neighbours with one label are drawn at once, because their order makes no difference.
    for label, neighbours in groupby(shapes, key=lambda annotation: categories[annotation.category_id]):
        mask[_draw(list(neighbours), image)] = label
    return mask


def select_annotations(
    file: CocoFile, image_id: str, categories: Mapping[int, int], crowd: Crowd
) -> list[CocoAnnotation]:
    """Return the annotations of an image that are drawn, in order; raise `AnnotationError` for one without label."""
    drawn = []
    for annotation in file.annotations.get(image_id, ()):
        if annotation.category_id not in categories:
            message = f"category {annotation.category_id} has no label in the manifest"
            raise AnnotationError(Issue("coco-reference", "error", message, path=file.name, hint=NO_LABEL_HINT))
        if categories[annotation.category_id] and not (annotation.crowd and crowd == "ignore"):
            drawn.append(annotation)
    return drawn


def encode_annotation(annotation: CocoAnnotation, image: CocoImage) -> Any:
    """Return an annotation as pycocotools' run lengths, its outlines united."""
    from pycocotools import mask as coco_mask

    if annotation.counts:
        runs = {"size": [image.height, image.width], "counts": list(annotation.counts)}
        return coco_mask.frPyObjects(runs, image.height, image.width)
    outlines = [[float(number) for number in polygon] for polygon in annotation.polygons]
    return coco_mask.merge(coco_mask.frPyObjects(outlines, image.height, image.width))


def count_overlap(groups: Iterable[Sequence[CocoAnnotation]], image: CocoImage) -> int:
    """Return how many pixels are covered more than once, each group counted as one shape."""
    from pycocotools import mask as coco_mask

    shapes = [coco_mask.merge([encode_annotation(annotation, image) for annotation in group]) for group in groups]
    return int(sum(coco_mask.area(shape) for shape in shapes) - coco_mask.area(coco_mask.merge(shapes)))


def _draw(annotations: list[CocoAnnotation], image: CocoImage) -> Any:
    """Return the union of annotations as a boolean array (H, W)."""
    from pycocotools import mask as coco_mask

    encoded = [encode_annotation(annotation, image) for annotation in annotations]
    return coco_mask.decode(coco_mask.merge(encoded)).astype(bool)
