"""Checks of annotation files, alone and as the masks of a dataset; a probe for each mask that is drawn from them."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.datasets.coco.annotation_file import read_annotations
from pipeline.datasets.coco.annotations import AnnotationError, CocoAnnotation, CocoFile
from pipeline.datasets.coco.drawing import NO_LABEL_HINT, Crowd, count_overlap, rasterise
from pipeline.datasets.coco.rle import measure_runs
from pipeline.datasets.coco.segmentations import measure_box
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.datasets.probes import ImageError, Probe
from pipeline.datasets.probes.orientation import QUARTER_TURNS, turn_to_stored
from pipeline.datasets.probes.pixels import summarise_pixels
from pipeline.issues import InputError, Issue

# Share of rectangles from which a file seems to hold boxes, and how much a rectangle may differ from its box.
RECTANGLES_SHARE = 0.9
RECTANGLE_TOLERANCE = 0.01


def read_policy(manifest: Manifest) -> tuple[dict[int, int], Crowd]:
    """Return how a manifest draws masks: the label id of each category id, and the treatment of ``iscrowd``.

    Raises `InputError` if the manifest has no key ``coco``.
    """
    if manifest.coco is None:
        hint = "build it with: python -m pipeline dataset build coco FOLDER -o MANIFEST"
        raise InputError(f"manifest {manifest.name!r} does not say how annotations become masks (key 'coco'); {hint}")
    categories = {int(number): int(label) for number, label in manifest.coco.get("categories", {}).items()}
    return categories, "merge" if manifest.coco.get("crowd") == "merge" else "ignore"


def probe_annotations(path: Path, image_id: str, manifest: Manifest, decode: bool, turn: int = 1) -> Probe:
    """Describe a mask that is drawn from annotations, as `pipeline.datasets.probes.probe_image` does for files.

    The manifest defines the label of each category and the treatment of crowds; ``turn`` is the EXIF orientation by
    which the mask is turned to the stored pixels. Without ``decode``, only the size is read. Raises `ImageError` if the
    file cannot be read, or the mask would be incomplete.
    """
    try:
        categories, crowd = read_policy(manifest)
        file = read_annotations(path)
        image = file.image(image_id)
        instances = manifest.mask_type == "instance"
        mask = rasterise(file, image_id, categories, crowd, instances) if decode else None
    except AnnotationError as error:
        issue = error.issue
        place = f"{issue.record}: " if issue.record else ""
        raise ImageError(issue.code, f"{place}{issue.message}", issue.hint) from None
    except InputError as error:
        raise ImageError("unreadable-file", str(error)) from None
    return Probe(
        format="COCO",
        shape=(image.width, image.height) if turn in QUARTER_TURNS else (image.height, image.width),
        channels=1,
        pages=1,
        content=None if mask is None else summarise_pixels(turn_to_stored(mask, turn), True),
        dtype="uint16" if instances else "uint8",
    )


def find_annotation_issues(manifest: Manifest, files: Mapping[str, Path]) -> Iterator[Issue]:
    """Check each annotation file once, against itself and the cases that refer to it.

    ``files`` is the path on disk of each annotation file, by its path relative to the dataset's folder. The findings
    are those of `check_annotations`, and ``coco-reference`` for cases whose image is not the one that the file names.
    """
    try:
        read_policy(manifest)
    except InputError as error:
        yield Issue("manifest-schema", "error", str(error), record="coco")
        return
    for relative, path in files.items():
        try:
            file = read_annotations(path)
        except InputError as error:
            yield Issue("unreadable-file", "error", str(error), path=relative)
            continue
        places = ((split_fragment(mask), case) for case in manifest.cases for mask in case.label or ())
        owners = {image_id: case for (source, image_id), case in places if source == relative}
        yield from _check_file(file, owners, manifest, relative)
        yield from _check_owners(file, owners, relative)


def _check_file(file: CocoFile, owners: Mapping[str, Case], manifest: Manifest, relative: str) -> Iterator[Issue]:
    """Yield the findings; errors of images that the manifest leaves out are warnings, because nothing uses them."""
    categories, crowd = read_policy(manifest)
    instances = manifest.mask_type == "instance"
    shapes: dict[str, Any] = {image_id: case.facts.get("shape") or () for image_id, case in owners.items()}
    sizes = {image_id: (shape[0], shape[1]) for image_id, shape in shapes.items() if len(shape) >= 2}
    for image_id in sizes:
        # The annotations have the size that viewers show.
        if manifest.find_turn(f"{relative}#{image_id}") in QUARTER_TURNS:
            sizes[image_id] = sizes[image_id][::-1]
    unused = {issue for key in file.images.keys() - owners.keys() for issue in file.broken.get(key, ())}
    for issue in check_annotations(file, categories=categories, crowd=crowd, instances=instances, sizes=sizes):
        yield replace(issue, path=relative, severity="warning" if issue in unused else issue.severity)


def _check_owners(file: CocoFile, owners: Mapping[str, Case], relative: str) -> Iterator[Issue]:
    for image_id, case in owners.items():
        image = file.images.get(image_id)
        if image and _fold(image.file_name) != _fold(case.image[0]):
            message = f"image {image_id} of the annotations is {image.file_name}, the case has {case.image[0]}"
            hint = "the annotations have changed; build the manifest again"
            yield Issue("coco-reference", "error", message, record=case.case_id, path=relative, hint=hint)


def _fold(path: str) -> str:
    """Return the name of a file as disks that ignore case and Unicode forms compare it."""
    return unicodedata.normalize("NFC", PurePosixPath(path).name).casefold()


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
    crosses = (
        sum(ring[i - 2] * ring[i + 1] - ring[i] * ring[i - 1] for i in range(0, len(ring), 2))
        for ring in annotation.polygons
    )
    return (left, top, right, bottom), sum(abs(cross) / 2 for cross in crosses)


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
        share = f"{count} of {total} outlines ({count / total:.0%})"
        message = f"{share} are rectangles along the axes: boxes, not outlines"
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
