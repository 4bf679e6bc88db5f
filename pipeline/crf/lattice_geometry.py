"""The geometry of the permutohedral lattice: the scale of the features, and the packing of a vertex into one number.

Vertices of the lattice A*_d in the plane sum(x) = 0 of d + 1 dimensions have coordinates that are all equal modulo
d + 1. A vertex x is identified by that remainder m and r = (x - m) / (d + 1), whose first d entries suffice; its key
is ``m + (d + 1) * sum_i (r_i - origin_i) * unit_i``. Adams, Baek, Davis: Fast High-Dimensional Filtering Using the
Permutohedral Lattice, Eurographics 2010.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ONE = 1 << 24  # a distance of 1 in fixed point; the bits below hold the axis, so that all backends break ties alike
AXIS_BITS = 4
AXIS_MASK = (1 << AXIS_BITS) - 1
_AXES = AXIS_MASK  # most features; the plane has one axis more
_KEYS = 1 << 62
_REACH = 1 << 20  # larger coordinates leave float32 too few digits for the position within a simplex
_BEFORE, _BEHIND = 3, 4  # room for the corners of a simplex and their neighbours


@dataclass(frozen=True)
class Geometry:
    """A lattice over a grid of points.

    Args:
        shape: size of the grid.
        spatial_step: length of a step along each axis of the grid, in units of the lattice.
        intensity_step: length of a step of intensity, per channel.
        origin: smallest coordinate of each axis of the lattice.
        unit: factor of each coordinate in a key; that of the last is 0.
        keys: exclusive upper bound of the keys, which start at 0.
    """

    shape: tuple[int, ...]
    spatial_step: tuple[float, ...]
    intensity_step: tuple[float, ...]
    origin: tuple[int, ...]
    unit: tuple[int, ...]
    keys: int

    @property
    def axes(self) -> int:
        """Number of the features, d."""
        return len(self.spatial_step) + len(self.intensity_step)

    @property
    def points(self) -> int:
        """Number of the points."""
        return math.prod(self.shape)


def measure_lattice(
    shape: Sequence[int], width: Sequence[float], intensity: float, lows: Sequence[float], highs: Sequence[float]
) -> Geometry:
    """Return the lattice in which the Gaussian has standard deviation ``width`` and ``intensity``.

    Args:
        shape: size of the grid.
        width: standard deviation along each axis, voxels.
        intensity: standard deviation of every channel.
        lows: smallest intensity of each channel; empty for a lattice of positions.
        highs: largest intensity.

    Raises:
        ValueError: there are too many channels, or a width is too small for the extent.
    """
    axes, channels = len(shape), len(lows)
    d = axes + channels
    if d > _AXES:
        raise ValueError(f"the image has {channels} channels, at most {_AXES - axes} can be filtered together")
    # With this scale the lattice's blur has variance (d + 1)^2 * 2/3 along each feature.
    factors = [math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)]
    # The last axis of the grid comes first among the features, as x does in the reference implementation.
    spatial_step = tuple(float(np.float32(factors[axes - 1 - axis] / width[axis])) for axis in range(axes))
    intensity_step = tuple(float(np.float32(factors[axes + channel] / intensity)) for channel in range(channels))
    low = [0.0] * axes + [value * step for value, step in zip(lows, intensity_step, strict=True)]
    high = [(shape[a] - 1) * spatial_step[a] for a in reversed(range(axes))]
    high += [value * step for value, step in zip(highs, intensity_step, strict=True)]
    origin, spans = _bound(low, high)
    reach = max(max(abs(first), abs(first + span)) for first, span in zip(origin, spans, strict=True))
    total = math.prod(spans[:-1]) * (d + 1)
    if total >= _KEYS or reach > _REACH:
        raise ValueError(
            f"widths of {', '.join(f'{w:g}' for w in width)} voxels"
            + (f" and an intensity of {intensity:g}" if channels else "")
            + f" are too small for a grid of {tuple(shape)}"
            + (f" with intensities from {min(lows):g} to {max(highs):g}" if channels else "")
            + ": the kernel would see single voxels; give larger widths"
        )
    unit = [math.prod(spans[:i]) for i in range(d)] + [0]
    return Geometry(tuple(shape), spatial_step, intensity_step, tuple(origin), tuple(unit), total)


def _bound(low: Sequence[float], high: Sequence[float]) -> tuple[list[int], list[int]]:
    """Return the smallest coordinate and the number of coordinates along each axis of the lattice."""
    corners = len(low) + 1
    lows, highs = [0.0] * corners, [0.0] * corners
    for j in range(corners - 1, 0, -1):
        lows[j] = lows[0] - j * high[j - 1]
        highs[j] = highs[0] - j * low[j - 1]
        lows[0] += low[j - 1]
        highs[0] += high[j - 1]
    first = [math.floor(value / corners) - _BEFORE for value in lows]
    last = [math.ceil(value / corners) + _BEHIND for value in highs]
    return first, [b - a + 1 for a, b in zip(first, last, strict=True)]
