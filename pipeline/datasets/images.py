"""What a check wants to know of an image file, from its header alone or from all its pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

# Twice Pillow's own warning level, where Pillow gives up; checked from the header, before anything is decoded.
MAX_PIXELS = 178_956_970
_FORMATS = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
_MAGIC = (b"II*\0", b"MM\0*", b"\x89PNG", b"\xff\xd8\xff", b"BM")
_POINTERS = {
    b"version https://git-lfs": "a Git LFS pointer; run git lfs pull",
    b"/annex/objects/": "a git-annex pointer; run git annex get",
    b"<!doctype": "a web page; download the file again",
    b"<html": "a web page; download the file again",
}


class ImageError(Exception):
    """A file that is not the image it should be.

    Args:
        code: issue code.
        message: what was found.
        hint: what to do.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


@dataclass(frozen=True)
class Content:
    """What the pixels say.

    Args:
        low: smallest value, not-a-number left out.
        high: largest value.
        non_finite: number of not-a-number and infinite values.
        counts: number of pixels by value; only filled for masks.
    """

    low: float
    high: float
    non_finite: int
    counts: Mapping[float, int]


@dataclass(frozen=True)
class Probe:
    """What is known of an image file.

    Args:
        format: ``"TIFF"``, ``"PNG"``, ...
        shape: size in pixels, rows first.
        channels: number of channels, alpha included.
        pages: number of images in the file.
        content: what the pixels say; None if only the header was read.
    """

    format: str
    shape: tuple[int, ...]
    channels: int
    pages: int
    content: Content | None = None


def probe_image(path: Path, *, decode: bool, is_mask: bool) -> Probe:
    """Read an image's header, or all of it.

    Args:
        path: an existing file.
        decode: read all pixels too.
        is_mask: count the pixels of each value.

    Raises:
        ImageError: ``unsupported-format``, ``not-an-image``, ``truncated``, ``too-large``.
    """
    suffix = PurePosixPath(path.name).suffix.lower()
    if suffix not in PROBES:
        known = ", ".join(sorted(PROBES))
        raise ImageError("unsupported-format", f"no reader for {suffix or 'a name without ending'!r}; known: {known}")
    return PROBES[suffix](path, decode, is_mask)


def _probe_raster(path: Path, decode: bool, is_mask: bool) -> Probe:
    from PIL import Image

    try:
        with Image.open(path) as image:
            columns, rows = image.size
            if columns * rows > MAX_PIXELS:
                raise ImageError("too-large", f"{rows} x {columns} pixels; the limit is {MAX_PIXELS} pixels")
            content = _summarise_pixels(image, is_mask) if decode else None
            pages = int(getattr(image, "n_frames", 1))
            return Probe(str(image.format), (rows, columns), len(image.getbands()), pages, content)
    except Image.DecompressionBombError:
        raise ImageError("too-large", f"more than {MAX_PIXELS} pixels") from None
    except Exception as error:
        # Pillow raises about anything for a damaged file: OSError, SyntaxError, ValueError, struct.error, KeyError.
        if isinstance(error, ImageError | MemoryError):
            raise
        raise _explain(path, error) from None


def _summarise_pixels(image: Any, is_mask: bool) -> Content:
    import numpy as np

    array = np.asarray(image)
    non_finite = 0
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        non_finite = int(array.size - np.count_nonzero(finite))
        array = array[finite]
    if array.size == 0:
        return Content(0.0, 0.0, non_finite, {})
    counts: dict[float, int] = {}
    if is_mask and array.dtype == np.uint8:
        # Twenty times faster than np.unique, which sorts.
        histogram = np.bincount(array.ravel(), minlength=256)
        counts = {float(value): int(histogram[value]) for value in np.flatnonzero(histogram)}
    elif is_mask:
        values, numbers = np.unique(array, return_counts=True)
        counts = {float(value): int(number) for value, number in zip(values, numbers, strict=True)}
    return Content(float(array.min()), float(array.max()), non_finite, counts)


def _explain(path: Path, error: Exception) -> ImageError:
    """Tell a damaged image from a file that never was one."""
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as problem:
        return ImageError("unreadable-file", (problem.strerror or str(problem)).lower())
    for mark, what in _POINTERS.items():
        if mark in head.lower():
            return ImageError("not-an-image", f"looks like {what.split(';')[0]}", what.split("; ")[1])
    if head.startswith(_MAGIC):
        reason = str(error).replace(f" file {str(path)!r}", "") or type(error).__name__
        size = os.path.getsize(path)
        return ImageError("truncated", f"damaged or cut off at {size} bytes ({reason})", "restore the file")
    return ImageError("not-an-image", f"not an image: starts with {head[:16]!r}", "restore the file")


def expected_format(path: str) -> str:
    """Return the format that a file's name promises, "" if it promises none.

    Example:
        >>> expected_format("a/b_1.tif")
        'TIFF'
    """
    return _FORMATS.get(PurePosixPath(path).suffix.lower(), "")


# One reader a file ending.
PROBES: dict[str, Callable[[Path, bool, bool], Probe]] = dict.fromkeys(_FORMATS, _probe_raster)
