"""Read picture files completely or not at all, convert to 8 bits, write atomically."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.atomic import write_atomically

# EXIF tag of a picture's orientation.
_ORIENTATION = 0x0112


def read_pixels(path: str | os.PathLike[str], kind: str = "picture") -> NDArray[Any]:
    """Return the pixels of a picture file as ``(H, W, C)`` in the file's own dtype and row order.

    Args:
        path: a file with one picture.
        kind: name of the file's content in the message.

    Raises:
        OSError: it cannot be opened, is damaged or cut off, or holds several pages.
    """
    try:
        with Image.open(path) as image:
            pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            if pages > 1:  # Pillow would silently read the first
                raise ValueError(f"it holds {pages} pages, expected one {kind} per file")
            pixels = np.asarray(image)
    # Pillow raises SyntaxError for some damaged PNG files.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise OSError(f"cannot read {kind} {path}: {error}") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def to_uint8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the image as 8 bits: unchanged if it has 8 bits, else scaled from its minimum and maximum.

    Example:
        >>> to_uint8(np.array([300, 400, 555], dtype=np.uint16))
        array([  0, 100, 255], dtype=uint8)
    """
    if image.dtype == np.uint8:
        return image
    low, high = float(image.min()), float(image.max())
    scaled: NDArray[np.uint8] = ((image - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
    return scaled


def write_picture(pixels: NDArray[Any], target: Path, kind: str = "PNG", orientation: int = 1) -> None:
    """Write a picture through a temporary file in the same folder, then rename it.

    Args:
        pixels: ``(H, W)`` of 8 or 16 bits, or ``(H, W, 3)`` of 8 bits.
        target: the file; its folder is created.
        kind: Pillow's name of the format.
        orientation: EXIF tag by which viewers turn the picture; 1 writes none.

    Raises:
        OSError: the file cannot be written; an older file of that name is unchanged.
    """
    with write_atomically(target, "wb", sync=False) as stream:
        Image.fromarray(pixels).save(stream, format=kind, **_tag(kind, orientation))


def _tag(kind: str, orientation: int) -> dict[str, Any]:
    if orientation == 1:
        return {}
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    # Pillow maps an uncompressed grey TIFF file into memory in the shape that it has after the turn, which garbles it.
    return {"exif": exif, **({"compression": "tiff_lzw"} if kind == "TIFF" else {})}
