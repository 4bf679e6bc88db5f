"""Kernels of the permutohedral lattice, by numba: from the position of a point to the corners of its simplex."""

from typing import Any

import numpy as np

from pipeline.crf.kernel_compiler import BLOCK, compiled
from pipeline.crf.lattice_geometry import AXIS_BITS, AXIS_MASK, ONE
from pipeline.crf.vertices import EMPTY, number_block

_STEP_BITS = np.int32(ONE.bit_length() - 1 + AXIS_BITS)
_FIRST_BITS = 12  # a hash table starts with 2**12 slots


@compiled
def _place_block(spatial_step: Any, corner: Any, shape: Any, first: int, count: int, feats: Any) -> None:
    """Write the positions of a brick's points, the last axis first, in units of the lattice."""
    axes = shape.shape[0]
    at = np.empty(axes, np.int64)
    rest = first
    for axis in range(axes - 1, -1, -1):
        at[axis] = rest % shape[axis]
        rest //= shape[axis]
    for point in range(count):
        for axis in range(axes):
            feats[axes - 1 - axis, point] = np.float32(corner[axis] + at[axis]) * spatial_step[axis]
        axis = axes - 1
        at[axis] += 1
        while axis > 0 and at[axis] == shape[axis]:
            at[axis] = 0
            axis -= 1
            at[axis] += 1


@compiled
def _elevate_block(feats: Any, elevated: Any, count: int) -> None:
    """Lift features (d, n) onto the plane of the lattice (d + 1, n): ``E f`` of Adams et al. (2010), section 3.1."""
    d = feats.shape[0]
    total = elevated[0]
    for p in range(count):
        total[p] = np.float32(0)
    for j in range(d, 0, -1):
        feature, row, factor = feats[j - 1], elevated[j], np.float32(j)
        for p in range(count):
            row[p] = total[p] - factor * feature[p]
            total[p] += feature[p]


@compiled
def _round_block(elevated: Any, origin: Any, unit: Any, sums: Any, base: Any, order: Any, count: int) -> None:
    """Find the nearest remainder-0 point; store each axis' distance to it in fixed point, with the axis' number."""
    corners = elevated.shape[0]
    inverse = np.float32(1.0 / corners)
    for p in range(count):
        sums[p] = 0
        base[p] = 0
    for i in range(corners):
        row, out = elevated[i], order[i]
        axis_unit, axis_origin = unit[i], origin[i]
        for p in range(count):
            scaled = row[p] * inverse
            nearest = np.floor(scaled + np.float32(0.5))
            whole = np.int32(nearest)
            sums[p] += whole
            base[p] += (np.int64(whole) - axis_origin) * axis_unit
            out[p] = (np.int32((scaled - nearest) * np.float32(ONE)) << AXIS_BITS) | np.int32(AXIS_MASK - i)


@compiled
def _sort_block(order: Any, count: int) -> None:
    """Sort the axes of every point by distance, the largest first; odd-even transposition has no branches."""
    corners = order.shape[0]
    for turn in range(corners):
        for i in range(turn & 1, corners - 1, 2):
            upper, lower = order[i], order[i + 1]
            for p in range(count):
                a, b = upper[p], lower[p]
                upper[p] = max(a, b)
                lower[p] = min(a, b)


@compiled
def _settle_block(order: Any, sums: Any, base: Any, unit: Any, count: int) -> None:
    """Move the remainder-0 point back into the plane: the axes with the smallest, or largest, distance move."""
    corners = order.shape[0]
    for rank in range(corners):
        row = order[rank]
        for p in range(count):
            axis = AXIS_MASK - (row[p] & AXIS_MASK)
            step = np.int32(rank > corners - 1 - sums[p]) - np.int32(rank < -sums[p])
            row[p] += step << _STEP_BITS
            base[p] -= np.int64(step) * unit[axis]


@compiled
def _weigh_block(order: Any, weights: Any, first: int, count: int) -> None:
    """Barycentric coordinates from the sorted distances."""
    corners = order.shape[0]
    scale = np.float32(1.0 / ONE)
    for p in range(count):
        largest = order[0, p] >> AXIS_BITS
        before = order[corners - 1, p] >> AXIS_BITS
        weights[first + p, 0] = np.float32(ONE - largest + before) * scale
        for m in range(1, corners):
            here = order[corners - 1 - m, p] >> AXIS_BITS
            weights[first + p, m] = np.float32(here - before) * scale
            before = here


@compiled
def build_chunk(
    corner: Any,
    shape: Any,
    colours: Any,
    spatial_step: Any,
    intensity_step: Any,
    origin: Any,
    unit: Any,
    index: Any,
    weights: Any,
) -> Any:
    """Find the simplex of the points of a brick; for the measures see `pipeline.crf.lattice_geometry.Geometry`.

    Args:
        corner: first point of the brick in the grid, int64 (axes,).
        shape: size of the brick, int64 (axes,).
        colours: intensities of the points, float32 (n, c), c may be 0.
        spatial_step: length of a step along each axis, float32 (axes,).
        intensity_step: length of a step of each intensity, float32 (c,).
        origin: smallest remainder-0 coordinate of each axis, int64 (d + 1,).
        unit: factor of each coordinate in a packed key, int64 (d + 1,), the last is 0.
        index: gets the corners' ids, counted in this chunk, uint16 (n, d + 1).
        weights: gets the barycentric coordinates, float32 (n, d + 1).

    Returns:
        Packed keys of the chunk's vertices, in the order of their ids.
    """
    corners = unit.shape[0]
    d, axes = corners - 1, shape.shape[0]
    feats = np.empty((d, BLOCK), np.float32)
    elevated = np.empty((corners, BLOCK), np.float32)
    order = np.empty((corners, BLOCK), np.int32)
    sums, base = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int64)
    shift = 64 - _FIRST_BITS
    table_keys, table_ids = np.full(1 << _FIRST_BITS, EMPTY, np.int64), np.empty(1 << _FIRST_BITS, np.int32)
    keys = np.empty(1 << _FIRST_BITS, np.int64)
    used = 0
    for first in range(0, index.shape[0], BLOCK):
        count = min(BLOCK, index.shape[0] - first)
        _place_block(spatial_step, corner, shape, first, count, feats)
        for channel in range(d - axes):
            row, factor = feats[axes + channel], intensity_step[channel]
            for p in range(count):
                row[p] = colours[first + p, channel] * factor
        _elevate_block(feats, elevated, count)
        _round_block(elevated, origin, unit, sums, base, order, count)
        _sort_block(order, count)
        _settle_block(order, sums, base, unit, count)
        _sort_block(order, count)
        _weigh_block(order, weights, first, count)
        table_keys, table_ids, keys, used, shift = number_block(
            order, base, unit, first, count, index, table_keys, table_ids, keys, used, shift
        )
    return keys[:used].copy()
