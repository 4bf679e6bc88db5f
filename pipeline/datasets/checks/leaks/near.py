"""Find near copies among many images: candidates by perceptual hash, verified by the correlation of details."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.datasets.probes.fingerprints import (
    HASH_BITS,
    SIDE,
    SYMMETRIES,
    apply_symmetry,
    compute_details,
    compute_hashes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.datasets.probes.fingerprints import Floats

#: Chosen on real images by ``benchmarks/near_duplicates.py``
MIN_CORRELATION = 0.9
_ROWS = 512  # images compared with all others at a time; 512 x 10,000 products take 20 MB
_PAIRS = 4096  # candidates verified at a time; takes 32 MB


@dataclass(frozen=True)
class NearPairs:
    """Pairs of near copies, as columns of a table."""

    first: NDArray[np.int64]  #: index of the image that comes first
    second: NDArray[np.int64]  #: index of its near copy, always larger
    distance: NDArray[np.int64]  #: Hamming distance of the hashes, 0 to 63 bits
    symmetry: NDArray[np.int64]  #: flip or turn of the copy, as an index of `SYMMETRIES`
    correlation: Floats  #: correlation of the details, -1 to 1

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)

    def select(self, chosen: NDArray[Any]) -> NearPairs:
        """Return the pairs at an index or where a mask is true."""
        columns = (self.first, self.second, self.distance, self.symmetry, self.correlation)
        return NearPairs(*(column[chosen] for column in columns))


def find_near_pairs(
    thumbnails: Floats,
    groups: NDArray[np.int64],
    *,
    distance: int,
    min_correlation: float = MIN_CORRELATION,
) -> Iterator[NearPairs]:
    """Compare all images with each other, under all flips and turns by 90 degrees.

    10,000 images take seconds, because distances are products of matrices of +1 and -1. Memory is bounded for any
    number of pairs, as long as the caller does not keep them.

    Args:
        thumbnails: (n, 32, 32).
        groups: (n,), number of each image's subject; images of one subject are not compared.
        distance: largest Hamming distance of the hashes, in bits.
        min_correlation: smallest correlation of the details.

    Yields:
        The near copies of a block of images, each pair once with its best symmetry, always in the same order.
    """
    hashes = compute_hashes(thumbnails).astype(np.float32)
    details = compute_details(thumbnails)
    for start in range(0, len(thumbnails), _ROWS):
        candidates = _find_candidates(hashes, groups, start, distance)
        for place in range(0, len(candidates), _PAIRS):
            candidates.correlation[place : place + _PAIRS] = _correlate(
                details, candidates.select(np.arange(place, min(place + _PAIRS, len(candidates))))
            )
        pairs = candidates.select(candidates.correlation >= min_correlation)
        if len(pairs):
            yield _keep_best_symmetry(pairs)


def _find_candidates(hashes: Floats, groups: NDArray[np.int64], start: int, distance: int) -> NearPairs:
    """Return pairs of a block's images with later ones, correlations still 0."""
    rows = hashes[start : start + _ROWS, 0]
    stop = start + len(rows)
    # Only images after the row itself, which is a triangle within the block.
    upper = np.arange(start, len(hashes))[None, :] > np.arange(start, stop)[:, None]
    upper &= groups[None, start:] != groups[start:stop, None]
    found = []
    for symmetry in range(len(SYMMETRIES)):
        # With d differing bits the product is (63 - d) - d.
        products = rows @ hashes[start:, symmetry].T
        i, j = np.nonzero((products >= HASH_BITS - 2 * distance) & upper)
        bits = np.rint((HASH_BITS - products[i, j]) / 2).astype(np.int64)
        found.append((i + start, j + start, bits, np.full(len(i), symmetry)))
    first, second, bits, symmetries = (np.concatenate(column).astype(np.int64) for column in zip(*found, strict=True))
    return NearPairs(first, second, bits, symmetries, np.zeros(len(first), np.float32))


def _correlate(details: Floats, pairs: NearPairs) -> Floats:
    correlations = np.zeros(len(pairs), np.float32)
    for symmetry in np.unique(pairs.symmetry):
        own = np.flatnonzero(pairs.symmetry == symmetry)
        copies = apply_symmetry(details[pairs.second[own]], int(symmetry)).reshape(len(own), SIDE * SIDE)
        originals = details[pairs.first[own]].reshape(len(own), SIDE * SIDE)
        correlations[own] = np.einsum("ij,ij->i", originals, copies)
    return correlations


def _keep_best_symmetry(pairs: NearPairs) -> NearPairs:
    order = np.lexsort((pairs.symmetry, -pairs.correlation, pairs.second, pairs.first))
    pairs = pairs.select(order)
    is_new = np.ones(len(pairs), bool)
    is_new[1:] = (np.diff(pairs.first) != 0) | (np.diff(pairs.second) != 0)
    return pairs.select(is_new)
