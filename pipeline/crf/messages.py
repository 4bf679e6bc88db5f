"""Kernels of mean-field inference, by numba: slice, softmax and splat in one pass over the points.

Two labels need one filtered channel, because with t = Q_1 - Q_0 the logit difference is
log(p_1 / p_0) + sum_k w_k K'_k t.
"""

from typing import Any

import numpy as np

from pipeline.crf.arguments import TINY
from pipeline.crf.exponentials import exp_block, softmax_block, tanh_block
from pipeline.crf.kernel_compiler import BLOCK, compiled

_TINY = np.float32(TINY)


@compiled
def scatter(local: Any, ids: Any, table: Any) -> None:
    """Add the chunks' sums, in the order of the chunks, to the table of all vertices."""
    table[:] = np.float32(0.0)
    for i in range(ids.shape[0]):
        for c in range(table.shape[1]):
            table[np.uint32(ids[i]), c] += local[i, c]


@compiled
def splat_ones(points: Any, first: int, last: int, kernel: Any) -> None:
    """Splat the constant 1 of the chunks ``first`` to ``last``; for ``kernel`` see `pipeline.crf.lattice.Tables`."""
    corners, weights = kernel.corners, kernel.weights
    for chunk in range(first, last):
        sums = kernel.local[kernel.offsets[chunk] : kernel.offsets[chunk + 1], 0]
        sums[:] = np.float32(0.0)
        for p in range(points[chunk], points[chunk + 1]):
            for m in range(corners.shape[1]):
                sums[corners[p, m]] += weights[p, m]


@compiled
def normalize(points: Any, first: int, last: int, kernel: Any) -> None:
    """Multiply the weights of each point by D^(-1/2), D the filtered constant 1, which the table holds."""
    corners, weights = kernel.corners, kernel.weights
    for chunk in range(first, last):
        values = _gather_pair(kernel, chunk, np.float32(1.0))
        for p in range(points[chunk], points[chunk + 1]):
            total = np.float32(0.0)
            for m in range(corners.shape[1]):
                total += weights[p, m] * values[corners[p, m]]
            norm = np.float32(1.0) / np.sqrt(total + _TINY)
            for m in range(corners.shape[1]):
                weights[p, m] *= norm


@compiled
def _gather_pair(kernel: Any, chunk: int, factor: Any) -> Any:
    """Return the values of a chunk's vertices times a factor."""
    first, last = kernel.offsets[chunk], kernel.offsets[chunk + 1]
    values = np.empty(last - first, np.float32)
    for i in range(last - first):
        values[i] = factor * kernel.table[np.uint32(kernel.ids[first + i]), 0]
    return values


@compiled
def _slice_pair(values: Any, kernel: Any, first: int, count: int, out: Any) -> None:
    corners, weights = kernel.corners, kernel.weights
    for p in range(count):
        total = np.float32(0.0)
        for m in range(corners.shape[1]):
            total += weights[first + p, m] * values[corners[first + p, m]]
        out[p] += total


@compiled
def _splat_pair(sums: Any, kernel: Any, first: int, count: int, data: Any) -> None:
    corners, weights = kernel.corners, kernel.weights
    for p in range(count):
        here = data[p]
        for m in range(corners.shape[1]):
            sums[corners[first + p, m]] += weights[first + p, m] * here


@compiled
def _collect_pair(
    spatial_values: Any,
    bilateral_values: Any,
    spatial: Any,
    bilateral: Any,
    unary: Any,
    start: int,
    count: int,
    is_start: bool,
    out: Any,
) -> None:
    """Write the unary and the messages from other points, for a block."""
    out[:count] = unary[0, start : start + count]
    if not is_start:
        _slice_pair(spatial_values, spatial, start, count, out)
        _slice_pair(bilateral_values, bilateral, start, count, out)


@compiled
def update_pair(
    points: Any, first: int, last: int, spatial: Any, bilateral: Any, factors: Any, unary: Any, is_start: bool
) -> None:
    """Take a step for two labels in the chunks ``first`` to ``last``: slice, compare, splat the result.

    Args:
        points: where the chunks begin, int64 (chunks + 1,).
        first: first chunk.
        last: after the last.
        spatial: lattice of positions, for the smoothness kernel.
        bilateral: lattice of positions and intensities, for the appearance kernel.
        factors: weights of the two kernels, float32 (2,).
        unary: log(p_1 / p_0), float32 (1, n).
        is_start: splat the unary's own probabilities.
    """
    work, out, bits = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32)
    powers = bits.view(np.float32)
    for chunk in range(first, last):
        spatial_values = _gather_pair(spatial, chunk, factors[0])
        bilateral_values = _gather_pair(bilateral, chunk, factors[1])
        spatial_sums = spatial.local[spatial.offsets[chunk] : spatial.offsets[chunk + 1], 0]
        bilateral_sums = bilateral.local[bilateral.offsets[chunk] : bilateral.offsets[chunk + 1], 0]
        spatial_sums[:] = np.float32(0.0)
        bilateral_sums[:] = np.float32(0.0)
        for start in range(points[chunk], points[chunk + 1], BLOCK):
            count = min(BLOCK, points[chunk + 1] - start)
            _collect_pair(spatial_values, bilateral_values, spatial, bilateral, unary, start, count, is_start, out)
            tanh_block(out, work, bits, powers, count)
            _splat_pair(spatial_sums, spatial, start, count, out)
            _splat_pair(bilateral_sums, bilateral, start, count, out)


@compiled
def finish_pair(
    points: Any, chunk: int, spatial: Any, bilateral: Any, factors: Any, unary: Any, is_start: bool, result: Any
) -> None:
    """Write the probabilities of two labels, float32 (2, n); without iterations (``is_start``) those of the unary."""
    work, out, bits = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32)
    powers = bits.view(np.float32)
    one = np.float32(1.0)
    spatial_values = _gather_pair(spatial, chunk, factors[0])
    bilateral_values = _gather_pair(bilateral, chunk, factors[1])
    for start in range(points[chunk], points[chunk + 1], BLOCK):
        at = start - points[chunk]
        count = min(BLOCK, points[chunk + 1] - start)
        _collect_pair(spatial_values, bilateral_values, spatial, bilateral, unary, start, count, is_start, out)
        for p in range(count):
            work[p] = -abs(out[p])
        exp_block(work, bits, powers, count)
        for p in range(count):
            small = work[p] / (one + work[p])
            large = one / (one + work[p])
            result[0, at + p] = small if out[p] >= np.float32(0.0) else large
            result[1, at + p] = large if out[p] >= np.float32(0.0) else small


@compiled
def _gather_many(kernel: Any, chunk: int, factor: Any) -> Any:
    first, last = kernel.offsets[chunk], kernel.offsets[chunk + 1]
    values = np.empty((last - first, kernel.table.shape[1]), np.float32)
    for i in range(last - first):
        for label in range(values.shape[1]):
            values[i, label] = factor * kernel.table[np.uint32(kernel.ids[first + i]), label]
    return values


@compiled
def _slice_many(values: Any, kernel: Any, first: int, count: int, out: Any) -> None:
    """Add the sliced labels (labels, n) to ``out``: four labels at a time, then one by one."""
    corners, weights, labels = kernel.corners, kernel.weights, values.shape[1]
    for c in range(0, labels - 3, 4):
        for p in range(count):
            s0 = s1 = s2 = s3 = np.float32(0.0)
            for m in range(corners.shape[1]):
                i, w = corners[first + p, m], weights[first + p, m]
                s0 += w * values[i, c]
                s1 += w * values[i, c + 1]
                s2 += w * values[i, c + 2]
                s3 += w * values[i, c + 3]
            out[c, p] += s0
            out[c + 1, p] += s1
            out[c + 2, p] += s2
            out[c + 3, p] += s3
    for c in range(labels - labels % 4, labels):
        for p in range(count):
            total = np.float32(0.0)
            for m in range(corners.shape[1]):
                total += weights[first + p, m] * values[corners[first + p, m], c]
            out[c, p] += total


@compiled
def _splat_many(sums: Any, kernel: Any, first: int, count: int, data: Any) -> None:
    corners, weights, labels = kernel.corners, kernel.weights, sums.shape[1]
    for c in range(0, labels - 3, 4):
        for p in range(count):
            d0, d1, d2, d3 = data[c, p], data[c + 1, p], data[c + 2, p], data[c + 3, p]
            for m in range(corners.shape[1]):
                i, w = corners[first + p, m], weights[first + p, m]
                sums[i, c] += w * d0
                sums[i, c + 1] += w * d1
                sums[i, c + 2] += w * d2
                sums[i, c + 3] += w * d3
    for c in range(labels - labels % 4, labels):
        for p in range(count):
            here = data[c, p]
            for m in range(corners.shape[1]):
                sums[corners[first + p, m], c] += weights[first + p, m] * here


@compiled
def _collect_many(
    spatial_values: Any,
    bilateral_values: Any,
    spatial: Any,
    bilateral: Any,
    unary: Any,
    start: int,
    count: int,
    is_start: bool,
    out: Any,
) -> None:
    """Write the unary and the messages from other points, for a block."""
    for label in range(unary.shape[0]):
        out[label, :count] = unary[label, start : start + count]
    if not is_start:
        _slice_many(spatial_values, spatial, start, count, out)
        _slice_many(bilateral_values, bilateral, start, count, out)


@compiled
def update_many(
    points: Any, first: int, last: int, spatial: Any, bilateral: Any, factors: Any, unary: Any, is_start: bool
) -> None:
    """Take a step for any number of labels; ``unary`` is log p, float32 (labels, n). See `update_pair`."""
    labels = unary.shape[0]
    out, top, bits = np.empty((labels, BLOCK), np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32)
    powers = bits.view(np.float32)
    for chunk in range(first, last):
        spatial_values = _gather_many(spatial, chunk, factors[0])
        bilateral_values = _gather_many(bilateral, chunk, factors[1])
        spatial_sums = spatial.local[spatial.offsets[chunk] : spatial.offsets[chunk + 1]]
        bilateral_sums = bilateral.local[bilateral.offsets[chunk] : bilateral.offsets[chunk + 1]]
        spatial_sums[:] = np.float32(0.0)
        bilateral_sums[:] = np.float32(0.0)
        for start in range(points[chunk], points[chunk + 1], BLOCK):
            count = min(BLOCK, points[chunk + 1] - start)
            _collect_many(spatial_values, bilateral_values, spatial, bilateral, unary, start, count, is_start, out)
            softmax_block(out, top, bits, powers, count)
            _splat_many(spatial_sums, spatial, start, count, out)
            _splat_many(bilateral_sums, bilateral, start, count, out)


@compiled
def finish_many(
    points: Any, chunk: int, spatial: Any, bilateral: Any, factors: Any, unary: Any, is_start: bool, result: Any
) -> None:
    """Write the probabilities of any number of labels, float32 (labels, n). See `finish_pair`."""
    labels = unary.shape[0]
    out, top, bits = np.empty((labels, BLOCK), np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int32)
    powers = bits.view(np.float32)
    spatial_values = _gather_many(spatial, chunk, factors[0])
    bilateral_values = _gather_many(bilateral, chunk, factors[1])
    for start in range(points[chunk], points[chunk + 1], BLOCK):
        at = start - points[chunk]
        count = min(BLOCK, points[chunk + 1] - start)
        _collect_many(spatial_values, bilateral_values, spatial, bilateral, unary, start, count, is_start, out)
        softmax_block(out, top, bits, powers, count)
        for label in range(labels):
            result[label, at : at + count] = out[label, :count]
