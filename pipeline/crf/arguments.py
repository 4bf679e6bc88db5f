"""The arguments of a dense CRF, checked before anything is computed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_SUM_TOLERANCE = 1e-2  # half precision rounds a sum of probabilities by less
_LABELS = 2
LEAST = 1e-5  # a probability of zero counts as this
TINY = 1e-20  # as in the reference implementation: no division by zero


@dataclass(frozen=True)
class Parameters:
    """Weights and widths of the kernels, and the number of iterations.

    Args:
        spatial_weight: w of the smoothness kernel.
        spatial_width: its standard deviation along each axis, in voxels.
        bilateral_weight: w of the appearance kernel.
        bilateral_width: its standard deviation along each axis, in voxels.
        bilateral_intensity: its standard deviation in units of the image.
        iterations: of mean field.
    """

    spatial_weight: float
    spatial_width: tuple[float, ...]
    bilateral_weight: float
    bilateral_width: tuple[float, ...]
    bilateral_intensity: float
    iterations: int


def check_parameters(
    axes: int,
    spatial_weight: float,
    spatial_width: float | Sequence[float],
    bilateral_weight: float,
    bilateral_width: float | Sequence[float],
    bilateral_intensity: float,
    iterations: int,
    spacing: Sequence[float] | None = None,
) -> Parameters:
    """Check the parameters of `pipeline.crf.mean_field`, and turn widths in mm into voxels.

    Args:
        axes: number of spatial axes.
        spatial_weight: see `pipeline.crf.mean_field`, as for all that follow.
        spatial_width: one number, or one per axis.
        bilateral_weight: not negative.
        bilateral_width: one number, or one per axis.
        bilateral_intensity: positive.
        iterations: 0 or more.
        spacing: mm between voxels along each axis; widths are in mm then.

    Raises:
        ValueError: a weight is negative, a width is not positive, or a number is missing.
    """
    if isinstance(iterations, bool) or int(iterations) != iterations or iterations < 0:
        raise ValueError(f"iterations must be a whole number, 0 or more, got {iterations!r}")
    for name, weight in (("spatial_weight", spatial_weight), ("bilateral_weight", bilateral_weight)):
        if not math.isfinite(weight) or weight < 0:
            raise ValueError(f"{name} must be a number, 0 or more, got {weight!r}")
    steps = (1.0,) * axes if spacing is None else _read_axes(spacing, "spacing", axes)
    widths = {"spatial_width": spatial_width, "bilateral_width": bilateral_width}
    voxels = {
        name: tuple(width / step for width, step in zip(_read_axes(value, name, axes), steps, strict=True))
        for name, value in widths.items()
    }
    (intensity,) = _read_axes([bilateral_intensity], "bilateral_intensity", 1)
    return Parameters(
        float(spatial_weight),
        voxels["spatial_width"],
        float(bilateral_weight),
        voxels["bilateral_width"],
        intensity,
        int(iterations),
    )


def _read_axes(value: Any, name: str, axes: int) -> tuple[float, ...]:
    """Return one positive number per axis."""
    numbers = [float(item) for item in np.ravel(value)] if np.ndim(value) else [float(value)] * axes
    if len(numbers) != axes:
        raise ValueError(f"{name} must be one number, or {axes} numbers, one per axis of space, got {value!r}")
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        raise ValueError(f"{name} must be greater than 0, got {value!r}")
    return tuple(numbers)


def check_shapes(prob: Any, image: Any) -> None:
    """Check the shape of probabilities ``(L, *spatial)`` against that of an image ``(*spatial, C)``.

    Args:
        prob: NumPy array or tensor.
        image: of the same kind.

    Raises:
        ValueError: there is only one label, an axis has length 0, or the shapes differ.
    """
    shape, grid = tuple(prob.shape), tuple(image.shape)
    if len(shape) < 2:
        raise ValueError(f"prob must be (labels, *spatial) with one axis of space or more, got shape {shape}")
    if shape[0] < _LABELS:
        raise ValueError(
            f"prob has {shape[0]} label along its first axis, a CRF chooses between 2 or more; "
            "for a foreground probability p give the two labels (1 - p, p)"
        )
    if grid[:-1] != shape[1:] or len(grid) != len(shape):
        raise ValueError(
            f"the image must be (*spatial, channels) on the grid of prob {shape[1:]}, got shape {grid}; "
            "channels come last in the image and labels first in prob"
        )
    if 0 in shape or 0 in grid:
        raise ValueError(f"prob has shape {shape} and the image {grid}; every axis must have length 1 or more")


def check_values(prob: Any, image: Any) -> None:
    """Check the values; the shapes must have been checked.

    Args:
        prob: NumPy array or tensor.
        image: of the same kind.

    Raises:
        ValueError: a value is not finite, or the probabilities lie outside of 0 to 1 or do not sum to one.
    """
    low, high = _find_range(prob, "prob")
    _find_range(image, "image")
    if low < -_SUM_TOLERANCE or high > 1 + _SUM_TOLERANCE:
        raise ValueError(
            f"prob must lie in 0 to 1, got {low:.4g} to {high:.4g}; are these logits? apply softmax over the first axis"
        )
    low, high = _find_range(prob.sum(0), "the sum of prob")
    if low < 1 - _SUM_TOLERANCE or high > 1 + _SUM_TOLERANCE:
        raise ValueError(
            f"prob must sum to 1 over the labels, got sums of {low:.4g} to {high:.4g}; "
            "apply softmax over the first axis"
        )


def _find_range(values: Any, name: str) -> tuple[float, float]:
    """Return the smallest and the largest value; ValueError if one is not finite."""
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError(f"{name} has values that are not finite (NaN or infinity)")
    return low, high
