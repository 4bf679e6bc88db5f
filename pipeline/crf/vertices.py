"""Kernels of the permutohedral lattice, by numba: the numbers of its vertices, their neighbours, and the blur."""

from typing import Any

import numpy as np

from pipeline.crf.kernel_compiler import compiled
from pipeline.crf.lattice_geometry import AXIS_MASK

EMPTY = np.int64(-1)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@compiled
def _slot(key: Any, shift: Any) -> Any:
    return np.int64((np.uint64(key) * _GOLDEN) >> np.uint64(shift))


@compiled
def _grow(table_keys: Any, table_ids: Any, listed: Any, shift: int) -> Any:
    """Return a hash table and a list of keys of twice the size with the same content."""
    size = 2 * table_keys.shape[0]
    longer = np.empty(size, np.int64)
    longer[: listed.shape[0]] = listed
    keys = np.full(size, EMPTY, np.int64)
    ids = np.empty(size, np.int32)
    for old in range(table_keys.shape[0]):
        key = table_keys[old]
        if key != EMPTY:
            at = _slot(key, shift - 1)
            while keys[at] != EMPTY:
                at = (at + 1) & (size - 1)
            keys[at] = key
            ids[at] = table_ids[old]
    return keys, ids, longer


@compiled
def number_block(
    order: Any,
    base: Any,
    unit: Any,
    first: int,
    count: int,
    index: Any,
    table_keys: Any,
    table_ids: Any,
    keys: Any,
    used: int,
    shift: int,
) -> Any:
    """Write the ids of the corners of a block's simplices; new vertices get the next ids.

    Returns:
        The hash table (keys and ids) of 2**(64 - shift) slots, the list of keys, their number, and the shift.
    """
    corners = unit.shape[0]
    for p in range(count):
        # A table that is at most half full mostly answers at the first slot.
        if used + corners > table_keys.shape[0] >> 1:
            table_keys, table_ids, keys = _grow(table_keys, table_ids, keys, shift)
            shift -= 1
        mask = table_keys.shape[0] - 1
        key = base[p] * corners
        for m in range(corners):
            at = _slot(key, shift)
            while table_keys[at] != key:
                if table_keys[at] == EMPTY:
                    table_keys[at] = key
                    table_ids[at] = used
                    keys[used] = key
                    used += 1
                    break
                at = (at + 1) & mask
            index[first + p, m] = table_ids[at]
            axis = AXIS_MASK - (order[corners - 1 - m, p] & AXIS_MASK)
            key += 1 - corners * unit[axis]
    return table_keys, table_ids, keys, used, shift


@compiled
def merge_keys(keys: Any, bits: int) -> Any:
    """Number the different keys of all chunks in the order of their first appearance.

    Args:
        keys: of all chunks, one after the other.
        bits: the table holds 2**bits keys; at least twice the number of different keys.

    Returns:
        (id of each key, the different keys, the table's keys, the table's ids).
    """
    size = 1 << bits
    table_keys, table_ids = np.full(size, EMPTY, np.int64), np.empty(size, np.int32)
    ids = np.empty(keys.shape[0], np.int32)
    unique = np.empty(keys.shape[0], np.int64)
    used = 0
    for i in range(keys.shape[0]):
        key = keys[i]
        at = _slot(key, 64 - bits)
        while table_keys[at] != key and table_keys[at] != EMPTY:
            at = (at + 1) & (size - 1)
        if table_keys[at] == EMPTY:
            table_keys[at] = key
            table_ids[at] = used
            unique[used] = key
            used += 1
        ids[i] = table_ids[at]
    return ids, unique[:used].copy(), table_keys, table_ids


@compiled
def find_neighbours(
    unique: Any, table_keys: Any, table_ids: Any, bits: int, unit: Any, axis: int, ahead: Any, behind: Any
) -> None:
    """Find the vertices one step along an axis: ids in ``ahead`` and ``behind``, the number of vertices for none."""
    corners = unit.shape[0]
    number = unique.shape[0]
    everything = unit.sum()
    mask = table_keys.shape[0] - 1
    for i in range(number):
        ahead[i] = number
        behind[i] = number
    for i in range(number):
        key = unique[i]
        step = 1 - corners * unit[axis]
        if key % corners == corners - 1:
            step += corners * everything - corners
        wanted = key + step
        at = _slot(wanted, 64 - bits)
        while table_keys[at] != wanted and table_keys[at] != EMPTY:
            at = (at + 1) & mask
        if table_keys[at] == wanted:
            other = table_ids[at]
            ahead[i] = other
            behind[other] = i


@compiled
def merge_dense_keys(keys: Any, table_ids: Any) -> Any:
    """Number the different keys as `merge_keys` does, with a slot for every possible key.

    Args:
        keys: of all chunks, one after the other.
        table_ids: gets the id of each possible key, -1 for a missing key, int32.

    Returns:
        (id of each key, the different keys).
    """
    ids = np.empty(keys.shape[0], np.int32)
    unique = np.empty(keys.shape[0], np.int64)
    used = 0
    table_ids[:] = -1
    for i in range(keys.shape[0]):
        key = np.uint64(keys[i])
        if table_ids[key] < 0:
            table_ids[key] = used
            unique[used] = keys[i]
            used += 1
        ids[i] = table_ids[key]
    return ids, unique[:used].copy()


@compiled
def find_dense_neighbours(unique: Any, table_ids: Any, unit: Any, axis: int, ahead: Any, behind: Any) -> None:
    """Find the vertices one step along an axis as `find_neighbours` does, from `merge_dense_keys`."""
    corners = unit.shape[0]
    number = unique.shape[0]
    everything = unit.sum()
    for i in range(number):
        ahead[i] = number
        behind[i] = number
    for i in range(number):
        step = 1 - corners * unit[axis]
        if unique[i] % corners == corners - 1:
            step += corners * everything - corners
        other = table_ids[np.uint64(unique[i] + step)]
        if other >= 0:
            ahead[i] = other
            behind[other] = i


@compiled
def blur(values: Any, spare: Any, ahead: Any, behind: Any) -> None:
    """Blur along all axes, one after the other, with (1/2, 1, 1/2); the last row of the values stays zero.

    Args:
        values: float32 (vertices + 1, channels).
        spare: of the same shape; the result is in ``values``.
        ahead: ids (axes, vertices).
        behind: ids (axes, vertices).
    """
    number, channels = ahead.shape[1], values.shape[1]
    half = np.float32(0.5)
    source, target = values, spare
    for c in range(channels):
        spare[number, c] = 0
    for axis in range(ahead.shape[0]):
        up, down = ahead[axis], behind[axis]
        if channels == 1:
            for i in range(number):
                target[i, 0] = source[i, 0] + half * (source[np.uint32(up[i]), 0] + source[np.uint32(down[i]), 0])
        else:
            for i in range(number):
                for c in range(channels):
                    target[i, c] = source[i, c] + half * (source[np.uint32(up[i]), c] + source[np.uint32(down[i]), c])
        source, target = target, source
    if ahead.shape[0] % 2 == 1:
        for i in range(number):
            for c in range(channels):
                values[i, c] = spare[i, c]
