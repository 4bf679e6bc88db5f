"""The dense CRF over every pair of points, in double precision: the exact backend, reference of the others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.crf.arguments import LEAST, Parameters

_POINTS = 8192  # two matrices of 8192^2 doubles take 1 GiB


def infer(prob: NDArray[Any], image: NDArray[Any], parameters: Parameters) -> NDArray[np.float64]:
    """Return Q ``(L, *spatial)`` by the definition in `pipeline.crf`, with all N^2 values of each kernel.

    Args:
        prob: ``(L, *spatial)``.
        image: ``(*spatial, C)``.
        parameters: widths in voxels.

    Raises:
        ValueError: there are more than 8192 points.
    """
    labels, shape = prob.shape[0], prob.shape[1:]
    number = int(np.prod(shape))
    if number > _POINTS:
        raise ValueError(f"the exact path compares all pairs of at most {_POINTS} points, got {number}; use a lattice")
    place = np.stack(np.meshgrid(*(np.arange(size, dtype=np.float64) for size in shape), indexing="ij"), -1)
    place = place.reshape(number, len(shape))
    colour = image.reshape(number, -1).astype(np.float64) / parameters.bilateral_intensity
    spatial = _compute_kernel([place / np.array(parameters.spatial_width)])
    bilateral = _compute_kernel([place / np.array(parameters.bilateral_width), colour])
    kernel = parameters.spatial_weight * spatial + parameters.bilateral_weight * bilateral
    unary = np.log(np.clip(prob.reshape(labels, number).astype(np.float64), LEAST, 1))
    state = _softmax(unary)
    for _ in range(parameters.iterations):
        state = _softmax(unary + state @ kernel)
    return state.reshape(prob.shape)


def _compute_kernel(features: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return D^(-1/2) K D^(-1/2) with K_ij = exp(-|f_i - f_j|^2 / 2) and D the sums of K's rows."""
    points = np.concatenate(features, axis=1)
    squares = (points**2).sum(1)
    distance = squares[:, None] + squares[None] - 2 * points @ points.T
    kernel = np.exp(-0.5 * np.maximum(distance, 0))
    norm = 1 / np.sqrt(kernel.sum(1))
    return kernel * norm[:, None] * norm[None]


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)
