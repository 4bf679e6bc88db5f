"""Smooth random fields and soft shapes: the material of all phantoms."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Field: TypeAlias = NDArray[np.float32]


def soft_step(distance: NDArray[np.floating], width: float) -> Field:
    """Rise from 0 (far outside, ``distance`` < 0) to 1 (far inside) over about ``width``.

    Example:
        >>> soft_step(np.float32([-1, 0, 1]), 0.1).round(3).tolist()
        [0.0, 0.5, 1.0]
    """
    return np.asarray(expit(distance / width), dtype=np.float32)


def blend(below: NDArray[np.floating], above: NDArray[np.floating] | float, weight: NDArray[np.floating]) -> Field:
    """Lay ``above`` over ``below`` with an opacity of ``weight`` (0 to 1)."""
    return np.asarray(below + weight * (above - below), dtype=np.float32)


def to_bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round values to the nearest integer from 0 to 255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


def draw_smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[int, ...]) -> Field:
    """Draw a smooth random field of mean about 0 and standard deviation 1.

    The numbers drawn depend on ``cells`` alone, so the same seed gives the same anatomy at every resolution.

    Args:
        rng: source of the random numbers.
        shape: size of the field in voxels, for example (D, H, W).
        cells: number of bumps along each axis.

    Returns:
        Field of the given shape, float32.

    Example:
        >>> noise = draw_smooth_noise(np.random.default_rng(0), (8, 64, 64), (2, 5, 5))
        >>> noise.shape, round(float(noise.std()), 3)
        ((8, 64, 64), 1.0)
    """
    field = rng.standard_normal([count + 2 for count in cells])
    for axis, (size, count) in enumerate(zip(shape, cells, strict=True)):
        centres = np.arange(count + 2) - 0.5
        positions = (np.arange(size) + 0.5) / size * count
        bumps = np.exp(-0.5 * ((positions[:, None] - centres) / 0.6) ** 2)
        field = np.moveaxis(np.tensordot(bumps, field, axes=(1, axis)), 0, axis)
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)
