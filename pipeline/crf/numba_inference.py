"""Mean field on the CPU: the numba backend, built from compiled kernels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.crf.arguments import LEAST, Parameters
from pipeline.crf.lattice import (
    Bricks,
    Lattice,
    Run,
    Tables,
    build_lattice,
    divide,
    find_spatial_lattice,
    group,
    lay_empty_tables,
    open_run,
)
from pipeline.crf.lattice_geometry import Geometry, measure_lattice
from pipeline.crf.messages import finish_many, finish_pair, update_many, update_pair

_LEAST = np.float32(LEAST)


@dataclass(frozen=True)
class _Filter:
    """A kernel of the CRF with its lattice and tables; None as lattice stands for a weight of zero."""

    lattice: Lattice | None
    tables: Tables
    spare: NDArray[np.float32]

    def apply(self) -> None:
        if self.lattice is not None:
            self.lattice.filter(self.tables, self.spare)


def infer(prob: NDArray[Any], image: NDArray[Any], parameters: Parameters, threads: int) -> NDArray[np.float32]:
    """Return Q ``(L, *spatial)``; arguments are checked, see `pipeline.crf.mean_field`.

    Args:
        prob: ``(L, *spatial)``.
        image: ``(*spatial, C)``.
        parameters: widths in voxels.
        threads: at most; the number changes only the time.
    """
    labels, shape = prob.shape[0], prob.shape[1:]
    bricks = divide(shape, len(shape) + image.shape[-1] + 1)
    points = bricks.points
    parts = group(len(bricks.slices), threads)
    channels = 1 if labels == 2 else labels
    result = np.empty(prob.shape, np.float32)
    with open_run(threads) as run:
        filters = _lay_filters(image, parameters, channels, bricks, run, threads)
        unary = np.empty((channels, bricks.total), np.float32)
        run(_take_logarithms, [(prob, bricks, *part, unary) for part in parts])
        factors = np.array([parameters.spatial_weight, parameters.bilateral_weight], np.float32)
        kernels = (filters[0].tables, filters[1].tables, factors, unary)
        update, finish = (update_pair, finish_pair) if labels == 2 else (update_many, finish_many)
        for iteration in range(parameters.iterations):
            run(update, [(points, *part, *kernels, iteration == 0) for part in parts])
            run(_Filter.apply, [(entry,) for entry in filters])

        def write(first: int, last: int) -> None:
            for chunk in range(first, last):
                here = np.empty((labels, int(points[chunk + 1] - points[chunk])), np.float32)
                finish(points, chunk, *kernels, parameters.iterations == 0, here)
                target = result[:, *bricks.slices[chunk]]
                target[...] = here.reshape(target.shape)

        run(write, parts)
    return result


def _take_logarithms(prob: NDArray[Any], bricks: Bricks, first: int, last: int, unary: NDArray[np.float32]) -> None:
    """Write log p, or for two labels log(p_1 / p_0), brick by brick; a zero counts as 1e-5."""
    for chunk in range(first, last):
        here = prob[:, *bricks.slices[chunk]].reshape(len(prob), -1)
        logs = np.log(np.clip(here, _LEAST, np.float32(1), dtype=np.float32))
        start, stop = bricks.points[chunk : chunk + 2]
        unary[:, start:stop] = logs if len(unary) > 1 else logs[1:] - logs[:1]


def _lay_filters(
    image: NDArray[Any], parameters: Parameters, channels: int, bricks: Bricks, run: Run, threads: int
) -> tuple[_Filter, _Filter]:
    """Return the lattice of positions (from the cache if possible) and that of positions and intensities."""
    shape = image.shape[:-1]
    nothing = _Filter(None, lay_empty_tables(bricks.points, channels), np.zeros((1, channels), np.float32))

    def lay(geometry: Geometry, find: Callable[..., Lattice], *pictures: Any) -> _Filter:
        lattice = find(geometry, *pictures, bricks, run, threads)
        tables = lattice.lay_tables(channels)
        return _Filter(lattice, tables, np.zeros_like(tables.table))

    spatial = bilateral = nothing
    if parameters.spatial_weight > 0 and parameters.iterations > 0:
        spatial = lay(measure_lattice(shape, parameters.spatial_width, 1.0, (), ()), find_spatial_lattice)
    if parameters.bilateral_weight > 0 and parameters.iterations > 0:
        lows, highs = [float(image.min())] * image.shape[-1], [float(image.max())] * image.shape[-1]
        geometry = measure_lattice(shape, parameters.bilateral_width, parameters.bilateral_intensity, lows, highs)
        bilateral = lay(geometry, build_lattice, image)
    return spatial, bilateral
