"""Permutohedral lattices of the compiled path: built once, shared by threads, kept by shape where positions are all."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.crf.geometry import Geometry
from pipeline.crf.messages import normalize, scatter, splat_ones
from pipeline.crf.simplex import blur, build_chunk, find_neighbours, merge_keys

__all__ = [
    "Lattice",
    "Run",
    "Tables",
    "build_lattice",
    "clear_cache",
    "divide",
    "find_spatial_lattice",
    "group",
    "lay_empty_tables",
    "open_run",
]

CHUNK = 1 << 15  # points; a chunk's sums fit the second cache, and two threads find work in an image of 256 x 256
CACHE_BYTES = 256 << 20

Run = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], list[Any]]


class Tables(NamedTuple):
    """What a kernel reads of a lattice, and its scratch.

    Args:
        offsets: where each chunk's vertices begin, int64 (chunks + 1,).
        corners: of each point's simplex, numbered within the chunk, uint32 (n, d + 1).
        weights: their barycentric coordinates times the norm, float32 (n, d + 1).
        ids: number of each chunk's vertices among all, int32 (vertices of all chunks,).
        table: values of all vertices and a zero, float32 (vertices + 1, channels).
        local: sums of each chunk's vertices, float32 (vertices of all chunks, channels).
    """

    offsets: NDArray[np.int64]
    corners: NDArray[np.uint32]
    weights: NDArray[np.float32]
    ids: NDArray[np.int32]
    table: NDArray[np.float32]
    local: NDArray[np.float32]


@dataclass(frozen=True)
class Lattice:
    """A lattice with normalised weights; see `Tables`.

    A chunk numbers its own vertices, so threads build chunks without a lock, and sums are added in the order of the
    chunks: the number of threads changes no bit of the result.
    """

    offsets: NDArray[np.int64]
    corners: NDArray[np.uint32]
    weights: NDArray[np.float32]
    ids: NDArray[np.int32]
    ahead: NDArray[np.int32]
    behind: NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.offsets, self.corners, self.weights, self.ids, self.ahead, self.behind)
        return sum(array.nbytes for array in arrays)

    def lay_tables(self, channels: int) -> Tables:
        """Return what kernels read, with scratch of its own."""
        table = np.zeros((self.ahead.shape[1] + 1, channels), np.float32)
        local = np.zeros((len(self.ids), channels), np.float32)
        return Tables(self.offsets, self.corners, self.weights, self.ids, table, local)

    def filter(self, tables: Tables, spare: NDArray[np.float32]) -> None:
        """Add the chunks' sums up and blur them: the table then holds what is sliced."""
        scatter(tables.local, tables.ids, tables.table)
        blur(tables.table, spare, self.ahead, self.behind)


def lay_empty_tables(points: NDArray[np.int64], channels: int) -> Tables:
    """Return the tables of a kernel of weight zero: points without corners."""
    number, chunks = int(points[-1]), len(points) - 1
    return Tables(
        np.zeros(chunks + 1, np.int64),
        np.empty((number, 0), np.uint32),
        np.empty((number, 0), np.float32),
        np.empty(0, np.int32),
        np.zeros((1, channels), np.float32),
        np.empty((0, channels), np.float32),
    )


def divide(points: int) -> NDArray[np.int64]:
    """Return the bounds of equal chunks; they depend on the number of points alone."""
    chunks = -(-points // CHUNK)
    return np.linspace(0, points, chunks + 1).astype(np.int64)


@contextmanager
def open_run(threads: int) -> Iterator[Run]:
    """Yield what calls a function with many arguments, side by side."""
    if threads == 1:
        yield lambda function, calls: [function(*call) for call in calls]
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda function, calls: list(pool.map(lambda call: function(*call), calls))


def group(chunks: int, threads: int) -> list[tuple[int, int]]:
    """Divide chunks among threads."""
    bounds = np.linspace(0, chunks, min(chunks, threads) + 1).astype(int).tolist()
    return list(itertools.pairwise(bounds))


def build_lattice(
    geometry: Geometry, colours: NDArray[Any] | None, points: NDArray[np.int64], run: Run, threads: int
) -> Lattice:
    """Build the lattice over a grid.

    Args:
        geometry: its measures.
        colours: intensities (n, c) of any dtype, None for positions alone.
        points: bounds of the chunks.
        run: see `open_run`.
        threads: that ``run`` has.
    """
    axes, number = geometry.axes + 1, geometry.points
    corners, weights = np.empty((number, axes), np.uint32), np.empty((number, axes), np.float32)
    measures = (
        np.array(geometry.shape, np.int64),
        np.array(geometry.place, np.float32),
        np.array(geometry.tint, np.float32),
        np.array(geometry.origin, np.int64),
        np.array(geometry.unit, np.int64),
    )

    def build(start: int, stop: int) -> Any:
        nothing = np.empty((stop - start, 0), np.float32)
        tints = nothing if colours is None else np.ascontiguousarray(colours[start:stop], np.float32)
        return build_chunk(start, tints, *measures, corners[start:stop], weights[start:stop])

    keys = run(build, zip(points[:-1].tolist(), points[1:].tolist(), strict=True))
    offsets = np.cumsum([0, *(len(part) for part in keys)])
    listed = np.concatenate(keys)
    bits = max(4, (2 * len(listed)).bit_length())
    ids, unique, table_keys, table_ids = merge_keys(listed, bits)
    ahead, behind = (np.empty((axes, len(unique)), np.int32) for _ in range(2))
    hashed = (unique, table_keys, table_ids, bits, measures[-1])
    run(find_neighbours, [(*hashed, axis, ahead[axis], behind[axis]) for axis in range(axes)])
    lattice = Lattice(offsets, corners, weights, ids, ahead, behind)
    tables = lattice.lay_tables(1)
    parts = group(len(points) - 1, threads)
    run(splat_ones, [(points, *part, tables) for part in parts])
    lattice.filter(tables, np.zeros_like(tables.table))
    run(normalize, [(points, *part, tables) for part in parts])
    return lattice


_cache: OrderedDict[Geometry, Lattice] = OrderedDict()
_lock = threading.Lock()


def find_spatial_lattice(geometry: Geometry, points: NDArray[np.int64], run: Run, threads: int) -> Lattice:
    """Return the lattice of positions alone, from the cache if it was built before.

    The lattices used last are kept, up to 256 MiB together.
    """
    with _lock:
        known = _cache.get(geometry)
        if known is not None:
            _cache.move_to_end(geometry)
            return known
    lattice = build_lattice(geometry, None, points, run, threads)
    with _lock:
        _cache[geometry] = lattice
        while sum(entry.nbytes for entry in _cache.values()) > CACHE_BYTES:
            _cache.popitem(last=False)
    return lattice


def clear_cache() -> None:
    """Forget the lattices of positions."""
    with _lock:
        _cache.clear()
