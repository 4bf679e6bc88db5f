"""Mean field on the CPU by compiled kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.crf.geometry import Geometry, measure_lattice
from pipeline.crf.inputs import Parameters
from pipeline.crf.lattice import (
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
from pipeline.crf.messages import finish_many, finish_pair, update_many, update_pair

__all__ = ["infer"]

_LEAST = np.float32(1e-5)


@dataclass(frozen=True)
class _Filter:
    """A kernel of the CRF ready to be applied; without a lattice its weight is zero."""

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
        threads: at most; they change the time and nothing else.
    """
    labels, shape = prob.shape[0], prob.shape[1:]
    points = divide(int(np.prod(shape)))
    parts = group(len(points) - 1, threads)
    channels = 1 if labels == 2 else labels
    result = np.empty((labels, int(points[-1])), np.float32)
    with open_run(threads) as run:
        filters = _lay_filters(image, shape, parameters, channels, points, run, threads)
        unary = np.empty((channels, int(points[-1])), np.float32)
        flat = prob.reshape(labels, -1)
        run(_take_logarithms, [(flat, unary, int(points[a]), int(points[b])) for a, b in parts])
        factors = np.array([parameters.spatial_weight, parameters.bilateral_weight], np.float32)
        kernels = (filters[0].tables, filters[1].tables, factors, unary)
        update, finish = (update_pair, finish_pair) if labels == 2 else (update_many, finish_many)
        for iteration in range(parameters.iterations):
            run(update, [(points, *part, *kernels, iteration == 0) for part in parts])
            run(_Filter.apply, [(entry,) for entry in filters])
        run(finish, [(points, *part, *kernels, parameters.iterations == 0, result) for part in parts])
    return result.reshape(prob.shape)


def _take_logarithms(prob: NDArray[Any], unary: NDArray[np.float32], start: int, stop: int) -> None:
    """Write log p, or for two labels log(p_1 / p_0); a zero counts as 1e-5."""
    for first in range(start, stop, 1 << 15):
        here = slice(first, min(first + (1 << 15), stop))
        logs = np.log(np.clip(prob[:, here], _LEAST, np.float32(1), dtype=np.float32))
        unary[:, here] = logs if len(unary) > 1 else logs[1:] - logs[:1]


def _lay_filters(
    image: NDArray[Any],
    shape: tuple[int, ...],
    parameters: Parameters,
    channels: int,
    points: NDArray[np.int64],
    run: Run,
    threads: int,
) -> tuple[_Filter, _Filter]:
    """Build the lattice of positions, from the cache if it was there, and that of positions and intensities."""
    nothing = _Filter(None, lay_empty_tables(points, channels), np.zeros((1, channels), np.float32))

    def lay(geometry: Geometry, find: Callable[..., Lattice], *colours: Any) -> _Filter:
        lattice = find(geometry, *colours, points, run, threads)
        tables = lattice.lay_tables(channels)
        return _Filter(lattice, tables, np.zeros_like(tables.table))

    near = alike = nothing
    if parameters.spatial_weight > 0 and parameters.iterations > 0:
        near = lay(measure_lattice(shape, parameters.spatial_width, 1.0, (), ()), find_spatial_lattice)
    if parameters.bilateral_weight > 0 and parameters.iterations > 0:
        flat = image.reshape(-1, image.shape[-1])
        lows, highs = flat.min(0).astype(float).tolist(), flat.max(0).astype(float).tolist()
        geometry = measure_lattice(shape, parameters.bilateral_width, parameters.bilateral_intensity, lows, highs)
        alike = lay(geometry, build_lattice, flat)
    return near, alike
