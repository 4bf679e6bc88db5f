"""Statistics of decoded pixels, the same for every format."""

import hashlib
from typing import Any

import numpy as np

from pipeline.datasets.probes import Content
from pipeline.datasets.probes.fingerprints import compute_fingerprint

#: Largest distance from a whole number at which a mask's value is rounded to it
NEAR = 0.01
# Value of an alpha channel of 8 bits that hides nothing.
OPAQUE = 255


def summarise_pixels(array: Any, is_mask: bool) -> Content:
    """Return range and finiteness of a numpy array of any shape and numeric type.

    Masks get the number of pixels of each value, rounded as `round_labels` does, images a digest and a fingerprint.
    """
    digest = "" if is_mask else compute_digest(array)
    fingerprint = None if is_mask else compute_fingerprint(array)
    finite = np.isfinite(array) if array.dtype.kind == "f" else None
    non_finite = 0
    first: tuple[int, ...] = ()
    if finite is not None and not finite.all():
        non_finite = int(array.size - np.count_nonzero(finite))
        first = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape))
        array = array[finite]
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    counts = _count_values(round_labels(array)) if is_mask and array.size else {}
    return Content(low, high, non_finite, counts, first, digest, fingerprint)


def round_labels(array: Any) -> Any:
    """Return the values of a mask, those within 0.01 of a whole number rounded: 0.9999 is a 1 that was scaled.

    Example:
        >>> round_labels(np.array([0.0, 0.9999, 2.005, 0.5])).tolist()
        [0.0, 1.0, 2.0, 0.5]
    """
    if array.dtype.kind != "f":
        return array
    nearest = np.rint(array)
    return np.where(np.abs(array - nearest) <= NEAR, nearest, array)


def _count_values(array: Any) -> dict[float, int]:
    if array.dtype == np.uint8 or array.dtype == np.uint16:
        # Twenty times faster than np.unique, which sorts.
        histogram = np.bincount(array.ravel())
        return {float(value): int(histogram[value]) for value in np.flatnonzero(histogram)}
    values, numbers = np.unique(array, return_counts=True)
    return {float(value): int(number) for value, number in zip(values, numbers, strict=True)}


def is_grey(array: Any) -> bool:
    """Return whether all colours ``(H, W, 3)`` are grey: red, green and blue are equal everywhere."""
    return bool((array[..., 0] == array[..., 1]).all() and (array[..., 0] == array[..., 2]).all())


def merge_channels(pixels: Any) -> Any:
    """Return a picture ``(H, W)`` or ``(H, W, C)`` as grey ``(H, W)`` where nothing is lost.

    An opaque alpha channel is dropped, and equal red, green and blue become one channel. 1-bit pixels become 0 and 1.

    Raises:
        ValueError: the alpha channel is not opaque everywhere, or the channels differ.

    Example:
        >>> merge_channels(np.full((1, 2, 3), 7, np.uint8)).tolist()
        [[7, 7]]
    """
    array = pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels
    array = array[..., None] if array.ndim == 2 else array
    if array.shape[-1] in (2, 4):
        if array[..., -1].min() < OPAQUE:
            raise ValueError("the alpha channel is not opaque everywhere")
        array = array[..., :-1]
    if array.shape[-1] != 1 and not (array.shape[-1] == 3 and is_grey(array)):
        raise ValueError(f"{array.shape[-1]} channels that differ, expected grey")
    return array[..., 0]


def compute_digest(array: Any) -> str:
    """Return the sha256 of an array's shape, type and values, independent of the file format."""
    little = array.dtype.newbyteorder("<")
    state = hashlib.sha256(f"{array.shape} {little.str}".encode())
    state.update(np.ascontiguousarray(array, dtype=little).data)
    return state.hexdigest()
