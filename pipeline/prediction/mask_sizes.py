"""Areas and volumes of what a mask marks."""

import os
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from pipeline.datasets.probes import VOLUMES, expected_format

_AXES = 3
_CHUNK = 1 << 22


def count_labels(mask: torch.Tensor) -> dict[int, int]:
    """Return the number of pixels or voxels of each label from 1 that a mask has.

    Example:
        >>> count_labels(torch.tensor([[[0.0, 2.0], [2.0, 1.0]]]))
        {1: 1, 2: 2}
    """
    values = np.asarray(torch.as_tensor(mask).detach().cpu()).ravel()
    counts = np.zeros(int(values.max(initial=0)) + 1, dtype=np.int64)
    for start in range(0, values.size, _CHUNK):  # whole numbers of 64 bits of a large volume would need much memory
        counts += np.bincount(values[start : start + _CHUNK].astype(np.int64), minlength=len(counts))
    return {label: int(counts[label]) for label in np.flatnonzero(counts).tolist() if label}


def measure_voxel(mask: torch.Tensor, path: str) -> tuple[float | None, float | None]:
    """Return area in mm² and volume in ml of one element of a mask, as far as the image's file says them.

    Args:
        mask: ``(1, *spatial)`` with the image's affine.
        path: of the image. Pictures and slices do not say how large a pixel is.

    Returns:
        An area for a volume of a single slice, else a volume; None for what is unknown.
    """
    known = os.path.isdir(path) or expected_format(Path(path).name) in VOLUMES
    if not known or not isinstance(mask, MetaTensor) or mask.ndim != _AXES + 1:
        return None, None
    columns = np.asarray(mask.affine.cpu(), dtype=np.float64)[:_AXES, :_AXES]
    single = [axis for axis in range(_AXES) if mask.shape[axis + 1] == 1]
    if single:
        first, second = (columns[:, axis] for axis in range(_AXES) if axis != single[-1])
        return float(np.linalg.norm(np.cross(first, second))), None
    return None, float(abs(np.linalg.det(columns))) / 1000
