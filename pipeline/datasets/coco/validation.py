"""Checks of an annotation file as a whole: overlaps, crowds, boxes in place of outlines, images without labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from pipeline.datasets.coco.annotations import CocoAnnotation, CocoFile
from pipeline.datasets.coco.drawing import NO_LABEL_HINT, Crowd, count_overlap
from pipeline.datasets.coco.rle import measure_runs
from pipeline.datasets.coco.segmentations import measure_box
from pipeline.issues import Issue

# Share of rectangles from which a file seems to hold boxes, and how much a rectangle may differ from its box.
RECTANGLES_SHARE = 0.9
RECTANGLE_TOLERANCE = 0.01


def check_annotations(
    file: CocoFile,
    *,
    categories: Mapping[int, int] | None = None,
    crowd: Crowd = "ignore",
    instances: bool = False,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> list[Issue]:
    """Check an annotation file.

    Args:
        file: the annotations.
        categories: label id of each category id; None: each category is a separate label.
        crowd: treatment of annotations marked ``iscrowd``.
        instances: masks number objects; then objects of one label must not overlap either.
        sizes: true (height, width) of images, by image id, as far as they are known.

    Returns:
        The findings about single rows, then ``coco-reference`` (a category without label), ``coco-size``,
        ``coco-overlap``, ``coco-crowd``, ``rectangular-masks`` and ``unannotated-images``, each with a count.

    Example:
        >>> from pipeline.datasets.coco.annotations import CocoImage
        >>> file = CocoFile("a.json", images={"1": CocoImage("1", "a.png", height=3, width=4)})
        >>> [issue.message for issue in check_annotations(file)]
        ['1 of 1 images have no annotation']
    """
    labels = categories if categories is not None else {number: number + 1 for number in file.categories}
    checks = (
        _check_labels(file, labels),
        _check_sizes(file, sizes or {}),
        _check_overlaps(file, labels, crowd, instances),
        _check_crowds(file, crowd),
        _check_rectangles(file),
        _check_unannotated(file),
    )
    return [*file.issues, *(issue for check in checks for issue in check)]


def _check_labels(file: CocoFile, labels: Mapping[int, int]) -> Iterator[Issue]:
    for number, count in sorted(file.used_categories().items()):
        if number not in labels:
            name = file.categories[number].name
            message = f"category {number} ({name!r}) of {count} annotations has no label in the manifest"
            yield Issue("coco-reference", "error", message, path=file.name, hint=NO_LABEL_HINT)


def _check_sizes(file: CocoFile, sizes: Mapping[str, tuple[int, int]]) -> Iterator[Issue]:
    for image_id, size in sizes.items():
        image = file.images.get(image_id)
        if image and (image.height, image.width) != tuple(size):
            swapped = (image.width, image.height) == tuple(size)
            hint = "height and width are swapped" if swapped else "annotate the images as they are, or export again"
            annotated = f"the annotations say {image.height} x {image.width} (height x width)"
            message = f"image {image.file_name} is {size[0]} x {size[1]}, {annotated}"
            yield Issue("coco-size", "error", message, record=f"image {image_id}", path=file.name, hint=hint)


def _check_overlaps(file: CocoFile, labels: Mapping[int, int], crowd: Crowd, instances: bool) -> Iterator[Issue]:
    pixels = images = 0
    for image_id, image in file.images.items():
        groups: defaultdict[int, list[CocoAnnotation]] = defaultdict(list)
        for number, annotation in enumerate(file.annotations.get(image_id, ())):
            label = labels.get(annotation.category_id)
            if label and not (annotation.crowd and crowd == "ignore"):
                # Without instances, objects of one label merge, and their overlap makes no difference.
                groups[number if instances else label].append(annotation)
        count = count_overlap(groups.values(), image) if len(groups) > 1 and image_id not in file.broken else 0
        pixels, images = pixels + count, images + bool(count)
    if images:
        what = "objects" if instances else "objects of different labels"
        message = f"{what} overlap in {images} images ({pixels} pixels)"
        hint = "the later in the file is drawn over the earlier"
        yield Issue("coco-overlap", "warning", f"{message}; {hint}", path=file.name)


def _measure(annotation: CocoAnnotation, height: int) -> tuple[tuple[float, float, float, float], float]:
    """Return box and area; the area of overlapping polygons counts twice."""
    if annotation.counts:
        return measure_runs(annotation.counts, height)
    boxes = [measure_box(polygon) for polygon in annotation.polygons]
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    return (left, top, right, bottom), sum(_shoelace(polygon) for polygon in annotation.polygons)


def _shoelace(polygon: Sequence[float]) -> float:
    points = range(0, len(polygon), 2)
    return abs(sum(polygon[i - 2] * polygon[i + 1] - polygon[i] * polygon[i - 1] for i in points)) / 2


def _check_crowds(file: CocoFile, crowd: Crowd) -> Iterator[Issue]:
    count = sum(a.crowd for row in file.annotations.values() for a in row)
    if count:
        fate = "left out: those pixels are background" if crowd == "ignore" else "drawn like single objects"
        hint = "set coco.crowd of the manifest to ignore or merge"
        message = f"{count} annotations marked iscrowd are {fate}"
        yield Issue("coco-crowd", "warning", message, path=file.name, hint=hint)


def _check_rectangles(file: CocoFile) -> Iterator[Issue]:
    count = total = 0
    for image_id, image in file.images.items():
        for annotation in file.annotations.get(image_id, ()):
            total += 1
            count += _is_rectangle(annotation, image.height)
    if total and count >= RECTANGLES_SHARE * total:
        message = (
            f"{count} of {total} outlines ({count / total:.0%}) are rectangles along the axes: boxes, not outlines"
        )
        hint = "a network trained on them learns boxes, and Dice does not measure outlines"
        yield Issue("rectangular-masks", "warning", message, path=file.name, hint=hint)


def _is_rectangle(annotation: CocoAnnotation, height: int) -> bool:
    if len(annotation.polygons) > 1:
        return False
    (left, top, right, bottom), area = _measure(annotation, height)
    whole = (right - left) * (bottom - top)
    return abs(whole - area) <= RECTANGLE_TOLERANCE * whole


def _check_unannotated(file: CocoFile) -> Iterator[Issue]:
    count = len(file.unannotated())
    if count:
        message = f"{count} of {len(file.images)} images have no annotation"
        hint = "check whether they show no object or lost their labels"
        yield Issue("unannotated-images", "warning", message, path=file.name, hint=hint)
