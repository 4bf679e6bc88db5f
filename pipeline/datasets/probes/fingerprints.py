"""Perceptual fingerprints, which survive recompression, resizing, changes of brightness, flips and turns.

A fingerprint is a thumbnail of 32 x 32 pixels. Everything else is computed from thumbnails, many at a time:

* the **hash**: signs of the 63 lowest frequencies of the discrete cosine transform against their median (the DCT
  hash "pHash": Zauner, Implementation and benchmarking of perceptual image hash functions, 2010). A flip only
  changes the sign of odd frequencies and a transposition swaps the axes, so the hashes of all 8 symmetries of a
  rectangle come from one transform;
* the **detail**: the thumbnail minus its blurred self, at zero mean and unit length. The dot product of two details
  is their correlation. It distinguishes two heads in the same pose, which the hash alone cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SIDE = 32
HASH_BITS = 63
_BLOCK = 8  # frequencies along an axis
_BLUR = 2.0  # thumbnail pixels
_REDUCED = 8 * SIDE  # larger images are averaged in blocks down to this before they are resized
# An image with less variation than this, as a share of its range of values, is a flat area with a few outliers.
_MIN_VARIATION = 0.01
# Share of the thumbnail that must differ from its median by a tenth of its range: smaller spots resemble each other.
_MIN_AREA = 0.02

#: Name of each change to an image, by the index with which `apply_symmetry` undoes it
SYMMETRIES = (
    "",
    "flipped left-right",
    "flipped upside down",
    "turned by 180 degrees",
    "transposed",
    "turned by 90 degrees",
    "turned by 90 degrees",
    "transposed along the other diagonal",
)


@dataclass(frozen=True)
class Fingerprint:
    """The thumbnail of an image."""

    #: 32 x 32 values from 0 to 1, 16-bit floats, as bytes: small, comparable and able to cross process borders
    thumbnail: bytes
    informative: bool  #: whether the image has enough detail to be recognised; blank and nearly black ones do not

    def __post_init__(self) -> None:
        """Refuse a thumbnail of another size, for example from a damaged cache."""
        if len(self.thumbnail) != 2 * SIDE * SIDE:
            raise ValueError(f"a thumbnail has {2 * SIDE * SIDE} bytes, got {len(self.thumbnail)}")


def compute_fingerprint(array: NDArray[Any]) -> Fingerprint:
    """Return the fingerprint of an image or a volume.

    A volume is represented by the mean of the middle half of its slices along the last axis: unlike a single slice
    that stays the same when the volume is resampled or its slices are reversed. The array is (H, W), (H, W, C) with at
    most 4 channels, which are averaged, or (X, Y, Z) and further axes, which are averaged, of any real dtype; values
    that are not finite count as 0.

    Example:
        >>> image = np.arange(64 * 48.0).reshape(64, 48)
        >>> compute_fingerprint(image) == compute_fingerprint(image * 2 + 10)
        True
        >>> compute_fingerprint(np.zeros((64, 48))).informative
        False
    """
    blank = Fingerprint(np.zeros((SIDE, SIDE), np.float16).tobytes(), informative=False)
    array = np.asarray(array)
    if array.size == 0:
        return blank
    plane = _reduce(_flatten(array))
    low, high = float(plane.min()), float(plane.max())
    if not high > low:
        return blank
    thumbnail = _resize((plane - np.float32(low)) / np.float32(high - low))
    least, most = float(thumbnail.min()), float(thumbnail.max())
    varied = float(thumbnail.std()) >= _MIN_VARIATION and most > least
    stretched = (thumbnail - least) / max(most - least, 1e-12)
    area = float(np.mean(np.abs(stretched - np.median(stretched)) > 0.1))
    return Fingerprint(stretched.astype(np.float16).tobytes(), informative=varied and area >= _MIN_AREA)


def _flatten(array: NDArray[Any]) -> NDArray[Any]:
    """Return (H, W) or, with channels, (H, W, C); 8-bit images stay 8-bit, which are reduced much faster."""
    while array.ndim > 2 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim > 3:
        array = array.mean(axis=tuple(range(3, array.ndim)), dtype=np.float32)
    if array.ndim == 3 and array.shape[-1] > 4:
        depth = array.shape[-1]
        array = _as_finite(array[..., depth // 4 : depth - depth // 4]).mean(axis=-1, dtype=np.float32)
    return np.atleast_2d(array) if array.dtype == np.uint8 else _as_finite(np.atleast_2d(array))


def _as_finite(array: NDArray[Any]) -> Floats:
    with np.errstate(over="ignore"):
        return np.nan_to_num(array.astype(np.float32), copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _reduce(plane: NDArray[Any]) -> Floats:
    """Average blocks of pixels of a large image, and its channels."""
    from PIL import Image

    layers = [plane] if plane.ndim == 2 else [plane[..., index] for index in range(plane.shape[-1])]
    factors = tuple(max(1, size // _REDUCED) for size in plane.shape[:2])
    if max(factors) > 1:
        layers = [np.asarray(Image.fromarray(layer).reduce(factors[::-1])) for layer in layers]
    # Layer by layer: a mean over a last axis of 3 is ten times slower.
    total = np.zeros(layers[0].shape, np.float32)
    for layer in layers:
        total += layer
    total /= len(layers)
    return total


def _resize(plane: NDArray[Any]) -> Floats:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    # Pillow's bilinear filter widens when it shrinks an image, so nothing aliases.
    resized: Floats = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32)
    return resized


def read_thumbnails(fingerprints: Sequence[Fingerprint]) -> Floats:
    """Return thumbnails (n, 32, 32) as numbers."""
    joined = b"".join(fingerprint.thumbnail for fingerprint in fingerprints)
    return np.frombuffer(joined, np.float16).reshape(-1, SIDE, SIDE).astype(np.float32)


def compute_hashes(thumbnails: Floats) -> NDArray[np.int8]:
    """Return the hashes of all symmetries of thumbnails (n, 32, 32): (n, 8, 63) of +1 and -1.

    Index ``[i, s]`` is the hash of ``apply_symmetry(thumbnails[i], s)``. With a and b two hashes, their Hamming
    distance is ``(63 - a @ b) / 2``.
    """
    from scipy.fft import dctn

    block = dctn(thumbnails, axes=(-2, -1), norm="ortho")[:, :_BLOCK, :_BLOCK]
    odd = np.where(np.arange(_BLOCK) % 2 == 1, -1, 1).astype(np.float32)
    hashes = np.empty((len(thumbnails), len(SYMMETRIES), HASH_BITS), np.int8)
    for index in range(len(SYMMETRIES)):
        turned = block.swapaxes(-1, -2) if index & 4 else block
        turned = turned * odd if index & 1 else turned
        turned = turned * odd[:, None] if index & 2 else turned
        # The first coefficient is the mean brightness, which does not identify an image.
        waves = turned.reshape(len(thumbnails), -1)[:, 1:]
        hashes[:, index] = np.where(waves > np.median(waves, axis=1, keepdims=True), 1, -1)
    return hashes


def compute_details(thumbnails: Floats) -> Floats:
    """Return each thumbnail (n, 32, 32) minus its blurred self, at zero mean and unit length."""
    from scipy.ndimage import gaussian_filter

    fine = thumbnails - gaussian_filter(thumbnails, (0, _BLUR, _BLUR))
    fine -= fine.mean(axis=(-2, -1), keepdims=True)
    length = np.sqrt((fine * fine).sum(axis=(-2, -1), keepdims=True))
    details: Floats = (fine / np.maximum(length, 1e-12)).astype(np.float32)
    return details


def apply_symmetry(planes: NDArray[Any], index: int) -> NDArray[Any]:
    """Return planes (..., H, W) under one of the 8 symmetries of a rectangle, by index in `SYMMETRIES`.

    It undoes the change named there, except that a turn by 90 degrees needs the index of the opposite turn.

    Example:
        >>> apply_symmetry(np.array([[1, 2], [3, 4]]), 1)
        array([[2, 1],
               [4, 3]])
    """
    if index & 4:
        planes = np.swapaxes(planes, -1, -2)
    if index & 1:
        planes = planes[..., ::-1]
    if index & 2:
        planes = planes[..., ::-1, :]
    return planes
