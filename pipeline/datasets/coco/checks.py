"""COCO masks in the checks of a dataset: a probe for each mask, and findings for each annotation file."""

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
    """Return how a manifest draws masks: the label id of each category id, and the treatment of ``iscrowd``.

    Raises `InputError` if the manifest has no key ``coco``.
    """
    if manifest.coco is None:
        hint = "build it with: python -m pipeline dataset build coco FOLDER -o MANIFEST"
        raise InputError(f"manifest {manifest.name!r} does not say how annotations become masks (key 'coco'); {hint}")
    categories = {int(number): int(label) for number, label in manifest.coco.get("categories", {}).items()}
    return categories, "merge" if manifest.coco.get("crowd") == "merge" else "ignore"


def probe_annotations(path: Path, image_id: str, manifest: Manifest, decode: bool) -> Probe:
    """Describe a mask that is drawn from annotations, as `pipeline.datasets.probes.probe_image` does for files.

    The manifest defines the label of each category and the treatment of crowds. Without ``decode``, only the size is
    read. Raises `ImageError` if the file cannot be read, or the mask would be incomplete.
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
    """Check each annotation file once, against itself and the cases that refer to it.

    ``files`` is the path on disk of each annotation file, by its path relative to the dataset's folder.

    Yields:
        The findings of `check_annotations`, and ``coco-reference`` for cases whose image is not the one that the file
        names.
    """
    try:
        policy = read_policy(manifest)
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
        yield from _check_file(file, owners, policy, relative, instances=manifest.mask_type == "instance")
        yield from _check_owners(file, owners, relative)


def _check_file(
    file: CocoFile, owners: Mapping[str, Case], policy: tuple[dict[int, int], Crowd], relative: str, *, instances: bool
) -> Iterator[Issue]:
    """Yield the findings; errors of images that the manifest leaves out are warnings, because nothing uses them."""
    categories, crowd = policy
    shapes: dict[str, Any] = {image_id: case.facts.get("shape") or () for image_id, case in owners.items()}
    sizes = {image_id: (shape[0], shape[1]) for image_id, shape in shapes.items() if len(shape) >= 2}
    unused = {
        issue
        for image_id, issues in file.broken.items()
        if image_id in file.images and image_id not in owners
        for issue in issues
    }
    for issue in check_annotations(file, categories=categories, crowd=crowd, instances=instances, sizes=sizes):
        yield replace(issue, path=relative, severity="warning" if issue in unused else issue.severity)


def _check_owners(file: CocoFile, owners: Mapping[str, Case], relative: str) -> Iterator[Issue]:
    for image_id, case in owners.items():
        image = file.images.get(image_id)
        if image and PurePosixPath(image.file_name).name != PurePosixPath(case.image[0]).name:
            message = f"image {image_id} of the annotations is {image.file_name}, the case has {case.image[0]}"
            hint = "the annotations have changed; build the manifest again"
            yield Issue("coco-reference", "error", message, record=case.case_id, path=relative, hint=hint)
