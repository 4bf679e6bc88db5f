"""COCO masks in the checks of a dataset: as if each were a mask file, and once for each annotation file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.datasets.coco.annotation_file import read_annotations
from pipeline.datasets.coco.annotations import AnnotationError, CocoFile
from pipeline.datasets.coco.drawing import Crowd, rasterise
from pipeline.datasets.coco.validation import check_annotations
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.datasets.probes import ImageError, Probe
from pipeline.datasets.probes.pixels import summarise_pixels
from pipeline.issues import InputError, Issue


def read_policy(manifest: Manifest) -> tuple[dict[int, int], Crowd]:
    """Return how a manifest turns annotations into masks.

    Returns:
        The label id of each category id, and what is done with annotations marked ``iscrowd``.

    Raises:
        InputError: the manifest has no ``coco``, so it does not say.
    """
    if manifest.coco is None:
        hint = "build it with: python -m pipeline dataset build coco FOLDER -o MANIFEST"
        raise InputError(f"manifest {manifest.name!r} does not say how annotations become masks (key 'coco'); {hint}")
    categories = {int(number): int(label) for number, label in manifest.coco.get("categories", {}).items()}
    return categories, "merge" if manifest.coco.get("crowd") == "merge" else "ignore"


def probe_annotations(path: Path, image_id: str, manifest: Manifest, decode: bool) -> Probe:
    """Describe a mask that is drawn from annotations, as `pipeline.datasets.probes.probe_image` does for files.

    Args:
        path: the annotation file.
        image_id: id of the image in it.
        manifest: says which category is which label, and what is done with crowds.
        decode: draw the mask, not only look at its size.

    Raises:
        ImageError: the file cannot be read, or not everything in this image can be drawn.
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
        shape=(image.height, image.width),
        channels=1,
        pages=1,
        content=None if mask is None else summarise_pixels(mask, True),
        dtype="uint16" if instances else "uint8",
    )


def find_annotation_issues(manifest: Manifest, files: Mapping[str, Path]) -> Iterator[Issue]:
    """Check annotation files, each once, against themselves and the cases that refer to them.

    Args:
        manifest: the manifest.
        files: where each annotation file lies, by its path relative to the dataset's folder.

    Yields:
        The findings of `check_annotations`, and ``coco-reference`` for cases whose image is not the one that the file
        names.
    """
    try:
        categories, crowd = read_policy(manifest)
    except InputError as error:
        yield Issue("manifest-schema", "error", str(error), record="coco")
        return
    for relative, path in files.items():
        owners = _find_owners(manifest, relative)
        try:
            file = read_annotations(path)
        except InputError as error:
            yield Issue("unreadable-file", "error", str(error), path=relative)
            continue
        issues = check_annotations(
            file,
            categories=categories,
            crowd=crowd,
            instances=manifest.mask_type == "instance",
            sizes=_true_sizes(owners),
        )
        excused = _find_excused(file, owners)
        for issue in issues:
            severity = "warning" if issue in excused else issue.severity
            yield replace(issue, path=relative, severity=severity)
        yield from _check_owners(file, owners, relative)


def _find_owners(manifest: Manifest, relative: str) -> dict[str, Case]:
    """Return the cases whose masks are in an annotation file, by image id."""
    places = ((split_fragment(path), case) for case in manifest.cases for path in case.label or ())
    return {image_id: case for (file, image_id), case in places if file == relative}


def _find_excused(file: CocoFile, owners: Mapping[str, Case]) -> set[Issue]:
    """Return the errors of images that the manifest has left out: nothing that is used depends on them."""
    left_out = (
        issues for image_id, issues in file.broken.items() if image_id in file.images and image_id not in owners
    )
    return {issue for issues in left_out for issue in issues}


def _true_sizes(owners: Mapping[str, Case]) -> dict[str, tuple[int, int]]:
    shapes: dict[str, Any] = {image_id: case.facts.get("shape") for image_id, case in owners.items()}
    return {image_id: (shape[0], shape[1]) for image_id, shape in shapes.items() if shape and len(shape) >= 2}


def _check_owners(file: CocoFile, owners: Mapping[str, Case], relative: str) -> Iterator[Issue]:
    for image_id, case in owners.items():
        image = file.images.get(image_id)
        if image and PurePosixPath(image.file_name).name != PurePosixPath(case.image[0]).name:
            message = f"image {image_id} of the annotations is {image.file_name}, the case has {case.image[0]}"
            hint = "the annotations have changed; build the manifest again"
            yield Issue("coco-reference", "error", message, record=case.case_id, path=relative, hint=hint)
