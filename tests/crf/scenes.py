"""Scenes for the CRF: smooth regions of different tone with noise, and probabilities that are mostly right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

OPTIONS: dict[str, Any] = {
    "spatial_weight": 3.0,
    "spatial_width": 2.0,
    "bilateral_weight": 10.0,
    "bilateral_width": 12.0,
    "bilateral_intensity": 20.0,
    "iterations": 5,
}


def make_scene(
    shape: tuple[int, ...], labels: int, channels: int = 3, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return probabilities (labels, *shape) and the image (*shape, channels)."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=shape), shape[-1] / 8) for _ in range(labels)]
    truth = np.stack(fields).argmax(0)
    tones = np.stack([np.linspace(20, 235, labels)[rng.permutation(labels)] for _ in range(channels)], 1)
    image = np.clip(tones[truth] + rng.normal(0, 6, (*shape, channels)), 0, 255).astype(np.uint8)
    logits = rng.normal(0, 1, (labels, *shape)) + 2.0 * (np.arange(labels).reshape(-1, *[1] * len(shape)) == truth)
    powers = np.exp(logits)
    return (powers / powers.sum(0)).astype(np.float32), image


def compute_label_iou(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Return the smallest IoU of a label between two label maps of probabilities."""
    first, second = left.argmax(0), right.argmax(0)
    values = []
    for label in range(len(left)):
        either = ((first == label) | (second == label)).sum()
        values.append(((first == label) & (second == label)).sum() / either if either else 1.0)
    return float(min(values))
