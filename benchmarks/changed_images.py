"""Real images by set, and typical edits of pictures, for ``near_duplicates.py``."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RealImage:
    """An image: its name, its patient or film ("" if unknown), 8-bit pixels or a volume of floats."""

    name: str
    subject: str
    pixels: Array


def _jpeg(image: Array, quality: int) -> Array:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def _resize(image: Array, factor: float) -> Array:
    if image.ndim == 3 and image.shape[-1] > 4:
        from scipy.ndimage import zoom

        return zoom(image, factor, order=1, grid_mode=True, mode="nearest")
    picture = Image.fromarray(image)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


def _rescale(image: Array, factor: float, offset: float = 0.0) -> Array:
    changed = image.astype(np.float32) * factor + offset
    return np.clip(changed, 0, 255).astype(np.uint8) if image.dtype == np.uint8 else changed


def _contrast(image: Array, factor: float) -> Array:
    return _rescale(image, factor, float(image.mean()) * (1 - factor))


def _crop(image: Array, share: float) -> Array:
    margins = [round(size * share) for size in image.shape[:2]]
    return np.ascontiguousarray(image[tuple(slice(m, n - m) for m, n in zip(margins, image.shape, strict=False))])


CHANGES: dict[str, Callable[[Array], Array]] = {
    "jpeg 75": lambda image: _jpeg(image, 75),
    "jpeg 50": lambda image: _jpeg(image, 50),
    "half size": lambda image: _resize(image, 0.5),
    "brightness +10 %": lambda image: _rescale(image, 1.1),
    "brightness -10 %": lambda image: _rescale(image, 0.9),
    "brightness +25": lambda image: _rescale(image, 1, 25),
    "contrast +20 %": lambda image: _contrast(image, 1.2),
    "contrast -20 %": lambda image: _contrast(image, 0.8),
    "flip left-right": lambda image: image[:, ::-1].copy(),
    "flip upside down": lambda image: image[::-1].copy(),
    "turn 90": lambda image: np.rot90(image).copy(),
    "turn 180": lambda image: image[::-1, ::-1].copy(),
    "half + jpeg 50 + flip": lambda image: _jpeg(_resize(image[:, ::-1].copy(), 0.5), 50),
}
# Reported, not promised: the hash covers the whole frame.
UNPROMISED: dict[str, Callable[[Array], Array]] = {
    "crop 2.5 % a side": lambda image: _crop(image, 0.025),
    "crop 5 % a side": lambda image: _crop(image, 0.05),
}
PLANAR_ONLY = frozenset(name for name in CHANGES if "jpeg" in name)


def read_sets(data: Path) -> dict[str, list[RealImage]]:
    """Return the real images by set; sets that are not in the folder are empty."""
    sets = {"isic": [_picture(path, path.stem) for path in sorted(data.glob("isic2017/**/*.jpg"))]}
    for name in ("brain_tumor_coco_kaggle", "brain_tumor_coco_br35h"):
        sets[name] = [_picture(path, "") for path in sorted(data.glob(f"{name}/*/*.jpg"))]
    sets["u373"] = [_picture(path, "01") for path in sorted(data.glob("PhC-C2DH-U373/01/*.tif"))]
    slices = sorted(data.glob("lgg/slices/*/*.webp"))
    sets["lgg slices"] = [_picture(path, path.parent.name) for path in slices if not path.stem.endswith("_mask")]
    volumes = list(_read_volumes(data))
    sets["hippocampus volumes"] = volumes
    sets["hippocampus middle slices"] = [_cut_middle(volume) for volume in volumes]
    return {name: images for name, images in sets.items() if images}


def _picture(path: Path, subject: str) -> RealImage:
    with Image.open(path) as image:
        return RealImage(f"{path.parent.name}/{path.name}", subject, np.asarray(image))


def _read_volumes(data: Path) -> Iterator[RealImage]:
    import nibabel

    for path in sorted(data.glob("Task04_Hippocampus/imagesTr/*.nii.gz")):
        file: Any = nibabel.load(path)
        yield RealImage(path.name, path.name, np.asarray(file.dataobj, dtype=np.float32))


def _cut_middle(volume: RealImage) -> RealImage:
    plane = volume.pixels[:, :, volume.pixels.shape[2] // 2]
    plane = (plane - plane.min()) / (plane.max() - plane.min()) * 255
    return RealImage(volume.name, volume.subject, plane.astype(np.uint8))
