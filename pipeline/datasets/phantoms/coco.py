"""A small synthetic dataset in the layout of a Roboflow export with COCO annotations."""

import hashlib
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import measure

from pipeline.datasets.phantoms.fields import to_bytes
from pipeline.datasets.phantoms.head import SEQUENCES, draw_head, render_head
from pipeline.datasets.phantoms.phantom_files import finish_phantom, read_phantom, start_phantom

FOLDERS = ("train", "valid", "test")
SLICES = 8
SOLID, HOLLOW = 1, 2
HEAD = {
    "info": {"description": "synthetic"},
    "licenses": [{"id": 1, "url": "https://creativecommons.org/publicdomain/zero/1.0/", "name": "CC0 1.0"}],
    "categories": (
        # Roboflow adds its project's name as a category without annotations.
        {"id": 0, "name": "lesion", "supercategory": "none"},
        {"id": SOLID, "name": "solid", "supercategory": "lesion"},
        {"id": HOLLOW, "name": "hollow", "supercategory": "lesion"},
    ),
}

Mask = NDArray[np.bool_]
Lesions = list[tuple[int, Mask]]


def write_coco_phantom(root: str | Path, *, images: int = 24, size: int = 128, seed: int = 0) -> Path:
    """Write synthetic images with annotations, their manifest and the truth.

    Every image shows a slice of a head with one or two lesions. Solid ones are annotated with a polygon, hollow ones
    with run lengths, alternately compressed and not. As in real exports, some images of the train and valid folders
    have lost their annotations, and some of the train folder are mirrored copies that only the name reveals. The same
    arguments give the same annotations.

    Args:
        root: folder to write to; gets ``export/`` (``train/``, ``valid/``, ``test/``), ``manifest.json`` and
            ``truth.json`` (for each image its folder, the pixels of each category and whether its labels are lost).
        images: number of images, 5 to 999: 60 % for training, 20 % each for validation and testing.
        size: height of an image in pixels, 32 to 1024; the width is a quarter more.
        seed: random seed, not negative.
    """
    source = start_phantom(root, "export", images=(images, 5, 999), size=(size, 32, 1024), seed=seed)
    held_out = max(1, images // 5)
    truth: dict[str, Any] = {}
    first = 0
    for folder, count in zip(FOLDERS, (images - 2 * held_out, held_out, held_out), strict=True):
        truth |= _write_folder(source / folder, range(first, first + count), size, seed)
        first += count
    return finish_phantom(source, read_phantom("coco", source), seed=seed, size=size, images=truth)


def _write_folder(folder: Path, indices: range, size: int, seed: int) -> dict[str, Any]:
    """Write the images and annotations of one split; return the truth by file name."""
    folder.mkdir()
    rows: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    truth: dict[str, Any] = {}
    for position, index in enumerate(indices):
        copy = folder.name == "train" and position % 4 == 3
        lost = folder.name != "test" and position % 4 == 1
        number = index - 1 if copy else index
        pixels, lesions = _draw_picture(np.random.default_rng([seed, number]), size, hollow=number % 3 == 2)
        if copy:
            pixels, lesions = pixels[:, ::-1], [(category, mask[:, ::-1]) for category, mask in lesions]
        digest = hashlib.sha256(f"{seed} {number} {copy}".encode()).hexdigest()[:32]
        name = f"head{number:03d}_jpg.rf.{digest}.jpg"
        Image.fromarray(pixels).convert("RGB").save(folder / name, quality=92)
        height, width = pixels.shape
        rows["images"].append({"id": position, "license": 1, "file_name": name, "height": height, "width": width})
        for category, mask in () if lost else lesions:
            head = {"id": len(rows["annotations"]), "image_id": position, "category_id": category}
            annotation = _annotate(category, mask, compressed=index % 2 == 0)
            rows["annotations"].append({**head, **annotation, "iscrowd": 0})
        voxels = {kind: sum(int(mask.sum()) for own, mask in lesions if own == kind) for kind in (SOLID, HOLLOW)}
        truth[name] = {"folder": folder.name, "copy": copy, "labels_lost": lost, "voxels": voxels}
    (folder / "_annotations.coco.json").write_text(json.dumps({**HEAD, **rows}), encoding="utf-8")
    return truth


def _draw_picture(
    rng: np.random.Generator, size: int, *, hollow: bool
) -> tuple[NDArray[np.uint8], list[tuple[int, Mask]]]:
    """Cut a head where its first lesion is largest; return grey values, and category and mask of each lesion (H, W)."""
    head = draw_head(rng, slices=SLICES)
    signal, shares = render_head(head, slices=SLICES, size=size)
    level = int(np.argmax((shares[0] > 0.5).sum(axis=(1, 2))))
    flair = signal[SEQUENCES.index("FLAIR"), level]
    lesions: Lesions = []
    taken = np.zeros(flair.shape, bool)
    for share in shares:
        mask = _keep_largest((share[level] > 0.5) & ~taken)
        if np.count_nonzero(mask) < 9:
            continue
        taken |= mask
        core = _find_core(mask) if hollow and not lesions else np.zeros_like(mask)
        flair = np.where(core, 0.12, flair)
        lesions.append((HOLLOW if core.any() else SOLID, mask & ~core))
    noise = rng.standard_normal((2, *flair.shape)) * 0.015
    pixels = to_bytes(np.hypot(np.clip(flair, 0, None) + noise[0], noise[1]) * 235)
    # Not square, so that exchanged rows and columns are noticed.
    margin = size // 8
    wide = [(category, np.pad(mask, ((0, 0), (margin, margin)))) for category, mask in lesions]
    return np.pad(pixels, ((0, 0), (margin, margin))), wide


def _keep_largest(mask: Mask) -> Mask:
    """Return the largest component with its holes filled: all that one polygon can describe."""
    parts, count = ndimage.label(mask)
    if not count:
        return mask
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(largest), dtype=bool)


def _find_core(mask: Mask) -> Mask:
    """Return the pixels deeper than half of the greatest depth."""
    depth = ndimage.distance_transform_edt(mask)
    return np.asarray(depth > max(1.0, 0.5 * float(depth.max())), dtype=bool)


def _annotate(category: int, mask: Mask, *, compressed: bool) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    segmentation = [_trace(mask)] if category == SOLID else _encode(mask, compressed=compressed)
    return {"segmentation": segmentation, "bbox": box, "area": int(mask.sum())}


def _trace(mask: Mask) -> list[float]:
    """Return the outline as x, y, x, y, ...; the centre of the first pixel lies at (0.5, 0.5)."""
    contours: Sequence[NDArray[np.float64]] = measure.find_contours(np.pad(mask, 1).astype(float), 0.5)
    outline = max(contours, key=len)[:, ::-1] - 0.5
    return [round(float(number), 3) for number in outline.ravel()]


def _encode(mask: Mask, *, compressed: bool) -> dict[str, Any]:
    """Return the run lengths down the columns, background first."""
    size = list(mask.shape)
    if compressed:
        from pycocotools import mask as coco_mask

        return {"size": size, "counts": coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()}
    pixels = mask.ravel(order="F").tolist()
    runs = [sum(1 for _ in run) for _, run in groupby(pixels)]
    return {"size": size, "counts": [0, *runs] if pixels[0] else runs}
