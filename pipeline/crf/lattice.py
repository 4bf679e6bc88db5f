"""Permutohedral lattices of the numba backend: shared by threads, and cached if they depend on positions only."""

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.crf.lattice_geometry import Geometry
from pipeline.crf.memory import check_vertices
from pipeline.crf.messages import normalize, scatter, splat_ones
from pipeline.crf.simplex import build_chunk
from pipeline.crf.vertices import blur, find_dense_neighbours, find_neighbours, merge_dense_keys, merge_keys

_DENSE = 8  # possible keys per actual key up to which a table of all keys is smaller than a hash table
_IDS = 1 << 16  # vertices that 16 bits can number
CACHE_BYTES = 256 << 20

Run = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], list[Any]]


class Tables(NamedTuple):
    """The arrays of a lattice that a kernel reads, and its scratch.

    Args:
        offsets: start of each chunk's vertices, int64 (chunks + 1,).
        corners: of each point's simplex, numbered within the chunk, uint16 (n, d + 1).
        weights: their barycentric coordinates times the norm, float32 (n, d + 1).
        ids: each chunk's vertices, numbered over the whole lattice, int32 (vertices of all chunks,).
        table: values of all vertices and a zero, float32 (vertices + 1, channels).
        local: sums of each chunk's vertices, float32 (vertices of all chunks, channels).
    """

    offsets: NDArray[np.int64]
    corners: NDArray[np.uint16]
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
    corners: NDArray[np.uint16]
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
        """Return the tables for kernels, with new scratch."""
        table = np.zeros((self.ahead.shape[1] + 1, channels), np.float32)
        local = np.zeros((len(self.ids), channels), np.float32)
        return Tables(self.offsets, self.corners, self.weights, self.ids, table, local)

    def filter(self, tables: Tables, spare: NDArray[np.float32]) -> None:
        """Add up the chunks' sums and blur them: the table then holds the values to slice."""
        scatter(tables.local, tables.ids, tables.table)
        blur(tables.table, spare, self.ahead, self.behind)


def lay_empty_tables(points: NDArray[np.int64], channels: int) -> Tables:
    """Return the tables of a kernel of weight zero: points without corners."""
    number, chunks = int(points[-1]), len(points) - 1
    return Tables(
        np.zeros(chunks + 1, np.int64),
        np.empty((number, 0), np.uint16),
        np.empty((number, 0), np.float32),
        np.empty(0, np.int32),
        np.zeros((1, channels), np.float32),
        np.empty((0, channels), np.float32),
    )


@dataclass(frozen=True)
class Bricks:
    """A grid divided into bricks: each is a chunk of work, and its points lie together.

    A brick is small enough to number its vertices with 16 bits, and as close to a cube as possible, so that few of its
    vertices belong to another brick as well.

    Args:
        points: start of each brick's points when bricks follow each other, int64 (bricks + 1,).
        slices: of each brick in the grid.
    """

    points: NDArray[np.int64]
    slices: list[tuple[slice, ...]]

    @property
    def total(self) -> int:
        """Number of points."""
        return int(self.points[-1])


def divide(shape: Sequence[int], corners: int) -> Bricks:
    """Divide a grid into bricks, which depend only on the arguments.

    Args:
        shape: of the grid.
        corners: of a simplex of the finest lattice.
    """
    size = list(shape)
    while math.prod(size) > _IDS // corners:
        longest = size.index(max(size))
        size[longest] = -(-size[longest] // 2)
    steps = [range(0, whole, part) for whole, part in zip(shape, size, strict=True)]
    slices = [
        tuple(slice(first, min(first + part, whole)) for first, part, whole in zip(place, size, shape, strict=True))
        for place in itertools.product(*steps)
    ]
    points = np.cumsum([0, *(math.prod(part.stop - part.start for part in brick) for brick in slices)])
    return Bricks(points.astype(np.int64), slices)


@contextmanager
def open_run(threads: int) -> Iterator[Run]:
    """Yield a function that calls another one with many arguments, in parallel."""
    if threads == 1:
        yield lambda function, calls: [function(*call) for call in calls]
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda function, calls: list(pool.map(lambda call: function(*call), calls))


def group(chunks: int, threads: int) -> list[tuple[int, int]]:
    """Divide chunks among threads."""
    bounds = np.linspace(0, chunks, min(chunks, threads) + 1).astype(int).tolist()
    return list(itertools.pairwise(bounds))


def build_lattice(geometry: Geometry, image: NDArray[Any] | None, bricks: Bricks, run: Run, threads: int) -> Lattice:
    """Build the lattice over a grid.

    Args:
        geometry: its scale and keys.
        image: intensities (*shape, c) of any dtype, None for positions only.
        bricks: of the grid.
        run: see `open_run`.
        threads: number of threads of ``run``.
    """
    points, axes = bricks.points, geometry.axes + 1
    corners, weights = np.empty((bricks.total, axes), np.uint16), np.empty((bricks.total, axes), np.float32)
    unit = np.array(geometry.unit, np.int64)
    measures = (
        np.array(geometry.spatial_step, np.float32),
        np.array(geometry.intensity_step, np.float32),
        np.array(geometry.origin, np.int64),
        unit,
    )

    def build(brick: tuple[slice, ...], start: int, stop: int) -> Any:
        first, size = np.array([[part.start, part.stop - part.start] for part in brick], np.int64).T.copy()
        intensities = np.empty((stop - start, 0), np.float32)
        if image is not None:
            intensities = image[brick].astype(np.float32).reshape(stop - start, -1)
        return build_chunk(first, size, intensities, *measures, corners[start:stop], weights[start:stop])

    bounds = points.tolist()
    keys = run(build, zip(bricks.slices, bounds[:-1], bounds[1:], strict=True))
    offsets = np.cumsum([0, *(len(part) for part in keys)])
    check_vertices(int(offsets[-1]), geometry.axes)
    listed = np.concatenate(keys)
    ids, ahead, behind = _number(listed, geometry, run)
    lattice = Lattice(offsets, corners, weights, ids, ahead, behind)
    tables = lattice.lay_tables(1)
    parts = group(len(points) - 1, threads)
    run(splat_ones, [(points, *part, tables) for part in parts])
    lattice.filter(tables, np.zeros_like(tables.table))
    run(normalize, [(points, *part, tables) for part in parts])
    return lattice


def _number(listed: NDArray[np.int64], geometry: Geometry, run: Run) -> tuple[NDArray[np.int32], ...]:
    """Return the number of each listed key among all, and the neighbours (d + 1, vertices) ahead and behind."""
    unit = np.array(geometry.unit, np.int64)
    find: Callable[..., Any]
    hashed: tuple[Any, ...]
    if geometry.keys <= _DENSE * len(listed):
        table = np.empty(geometry.keys, np.int32)
        ids, unique = merge_dense_keys(listed, table)
        find, hashed = find_dense_neighbours, (unique, table, unit)
    else:
        bits = max(4, (2 * len(listed)).bit_length())
        ids, unique, *tables = merge_keys(listed, bits)
        find, hashed = find_neighbours, (unique, *tables, bits, unit)
    ahead, behind = (np.empty((len(unit), len(unique)), np.int32) for _ in range(2))
    run(find, [(*hashed, axis, ahead[axis], behind[axis]) for axis in range(len(unit))])
    return ids, ahead, behind


_cache: OrderedDict[tuple[Geometry, int], Lattice] = OrderedDict()
_lock = threading.Lock()


def find_spatial_lattice(geometry: Geometry, bricks: Bricks, run: Run, threads: int) -> Lattice:
    """Return the lattice of positions only, from the cache if it was built before.

    The most recent lattices are kept, up to 256 MiB in all.
    """
    key = (geometry, len(bricks.slices))  # bricks are smaller with more channels
    with _lock:
        known = _cache.get(key)
        if known is not None:
            _cache.move_to_end(key)
            return known
    lattice = build_lattice(geometry, None, bricks, run, threads)
    with _lock:
        _cache[key] = lattice
        while sum(entry.nbytes for entry in _cache.values()) > CACHE_BYTES:
            _cache.popitem(last=False)
    return lattice


def clear_cache() -> None:
    """Forget the lattices of positions."""
    with _lock:
        _cache.clear()
