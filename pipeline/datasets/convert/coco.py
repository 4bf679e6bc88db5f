"""COCO (Lin et al. 2014): ``annotations/instances_<split>.json`` and one folder of pictures per split."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage

from pipeline.datasets.coco import AnnotationError, read_annotations, read_policy
from pipeline.datasets.coco.drawing import encode_annotation, select_annotations
from pipeline.datasets.convert.conversion import Conversion, Item
from pipeline.datasets.convert.raster import write_whole_picture
from pipeline.datasets.convert.reading import IGNORED, is_volume
from pipeline.datasets.convert.volumes import name_labels
from pipeline.datasets.files import locate_file
from pipeline.datasets.manifests.manifest import split_fragment
from pipeline.datasets.probes.orientation import turn_to_stored
from pipeline.issues import InputError

Segmentation = dict[str, Any]


def write(conversion: Conversion) -> list[str]:
    """Write a dataset that pycocotools reads.

    An annotation is an object of an instance mask, a connected component of a label of a semantic mask, or an
    annotation of COCO data. Shapes are compressed run lengths (``iscrowd`` 0), which keep holes and every pixel, unlike
    outlines. Images without mask are in ``annotations/image_info_<split>.json``, because an image without annotation in
    ``instances_*`` means that it shows no object.

    Returns:
        Notes for the user.

    Raises:
        InputError: the dataset holds volumes.
    """
    manifest = conversion.manifest
    volume = next((item.case.case_id for item in conversion.items if is_volume(manifest, item.case)), None)
    if volume is not None:
        raise InputError(f"COCO is for pictures, {volume} is a volume; --to decathlon and --to nnunet take volumes")
    names = name_labels(manifest, conversion.items)
    for part in sorted({item.part for item in conversion.items}):
        (conversion.out / part).mkdir()
    written = conversion.map_items(lambda item: _write_item(conversion, item))
    categories = [{"id": label, "name": name, "supercategory": ""} for label, name in names.items() if label]
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(conversion.items):
        kind = "image_info" if item.case.label is None else "instances"
        groups.setdefault(f"{kind}_{item.part}", []).append(index)
    for name, indices in groups.items():
        content = _collect([(index + 1, *written[index]) for index in indices])
        info = {"description": manifest.name, "url": manifest.source, "contributor": "; ".join(manifest.citations)}
        head = {"info": info, "licenses": [{"id": 1, "name": manifest.licence, "url": ""}]}
        content = {**head, "categories": categories, **content}
        conversion.write_json(f"annotations/{name}.json", content, indent=None)
    return _describe_losses(conversion)


def _write_item(conversion: Conversion, item: Item) -> tuple[dict[str, Any], list[tuple[int, Segmentation]]]:
    """Return the image's record without id, and the label and run lengths of each object."""
    relative, grid = write_whole_picture(conversion, item, f"{item.part}/{item.name}")
    height, width = grid.shape
    record: dict[str, Any] = {"file_name": relative.split("/", 1)[1], "height": height, "width": width, "license": 1}
    if item.case.subject:
        record["subject"] = item.case.subject
    objects = list(_encode_objects(conversion, item)) if item.case.label else []
    wrong = [runs["size"] for _, runs in objects if runs["size"] != [height, width]]
    if wrong:
        raise InputError(f"{item.case.case_id}: the image is {[height, width]}, its mask {wrong[0]}")
    return record, objects


def _encode_objects(conversion: Conversion, item: Item) -> Iterator[tuple[int, Segmentation]]:
    manifest = conversion.manifest
    path = (item.case.label or ("",))[0]
    if split_fragment(path)[1]:
        yield from _copy_annotations(conversion, path)
        return
    labels = conversion.read_labels(item)[0].array
    if manifest.mask_type == "instance":
        label = next(number for number in manifest.labels if number)
        yield from ((label, _encode(labels == number)) for number in np.unique(labels) if number)
        return
    for label in np.unique(labels).tolist():
        if label not in (0, IGNORED):
            parts, _ = ndimage.label(labels == label, structure=np.ones((3, 3)))
            # Only within its box, because a large picture may have hundreds of components.
            for number, box in enumerate(ndimage.find_objects(parts), start=1):
                whole = np.zeros(labels.shape, bool)
                whole[box] = parts[box] == number
                yield label, _encode(whole)


def _copy_annotations(conversion: Conversion, path: str) -> Iterator[tuple[int, Segmentation]]:
    """Yield the shapes that the manifest's rules draw, in order: later ones lie on top."""
    file, image_id = split_fragment(path)
    categories, crowd = read_policy(conversion.manifest)
    turn = conversion.manifest.find_turn(path)
    try:
        annotations = read_annotations(locate_file(conversion.root, file))
        image = annotations.image(image_id)
        for annotation in select_annotations(annotations, image_id, categories, crowd):
            shape = encode_annotation(annotation, image)
            # The picture is written as it is stored, without its orientation.
            yield (
                categories[annotation.category_id],
                _to_text(shape) if turn == 1 else _encode(turn_to_stored(coco_mask.decode(shape), turn)),
            )
    except AnnotationError as error:
        raise InputError(str(error)) from None


def _encode(mask: NDArray[np.bool_]) -> Segmentation:
    return _to_text(coco_mask.encode(np.asfortranarray(mask, np.uint8)))


def _to_text(runs: dict[str, Any]) -> Segmentation:
    counts = runs["counts"]
    size = [int(length) for length in runs["size"]]
    return {"size": size, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def _collect(rows: list[tuple[int, dict[str, Any], list[tuple[int, Segmentation]]]]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, record, objects in rows:
        images.append({"id": image_id, **record})
        for label, runs in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label,
                    "iscrowd": 0,
                    "area": int(coco_mask.area(runs)),
                    "bbox": [float(length) for length in coco_mask.toBbox(runs)],
                    "segmentation": runs,
                }
            )
    return {"images": images, "annotations": annotations}


def _describe_losses(conversion: Conversion) -> list[str]:
    manifest, items = conversion.manifest, conversion.items
    notes = []
    if manifest.ignore_index is not None:
        notes.append("COCO has no ignored pixels; they became background")
    if any(item.fold is not None for item in items):
        notes.append("COCO has no folds; --fold K writes that fold as val")
    unlabelled = sum(item.case.label is None for item in items)
    if unlabelled:
        notes.append(f"images without mask, in annotations/image_info_*.json: {unlabelled}")
    return notes
