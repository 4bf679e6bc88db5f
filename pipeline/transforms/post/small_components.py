"""Removal of small components from an index map."""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from monai.transforms import Transform

from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import read_spacing
from pipeline.transforms.post.each_label import change_labels, check_applied_labels


class RemoveSmallComponents(Transform):
    """Remove the connected components of each label that are smaller than a size.

    MONAI's ``RemoveSmallObjects`` (1.6.1) treats all voxels of a label as one object if a map has two labels. Whether
    it keeps objects of exactly ``min_size`` depends on scikit-image: since 0.26 it removes them, with a warning.

    Args:
        min_size: smaller components are removed; 0 changes nothing.
        applied_labels: labels to clean, by default all labels of the map.
        connectivity: number of axes along which connected neighbours may differ: 1 for faces only.
        unit: unit of ``min_size``; "mm" is mm² in pictures and mm³ in volumes, by the map's voxel sizes.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> labels = torch.tensor([[[1, 1, 0, 2, 2], [0, 0, 1, 0, 0]]])
        >>> RemoveSmallComponents(2)(labels)[0].tolist()
        [[1, 1, 0, 2, 2], [0, 0, 0, 0, 0]]
    """

    def __init__(
        self,
        min_size: float = 64,
        applied_labels: Iterable[int] | int | None = None,
        connectivity: int = 1,
        unit: Literal["voxel", "mm"] = "voxel",
    ) -> None:
        if not 0 <= min_size < math.inf:
            raise ValueError(f"min_size must be a number from 0, got {min_size}")
        if connectivity < 1:
            raise ValueError(f"connectivity must be at least 1, got {connectivity}")
        if unit not in ("voxel", "mm"):
            raise ValueError(f"unit must be 'voxel' or 'mm', got {unit!r}")
        self.min_size = min_size
        self.applied_labels = check_applied_labels(applied_labels)
        self.connectivity = connectivity
        self.unit = unit

    def __call__(self, labels: torch.Tensor) -> torch.Tensor:
        """Clean an index map ``(1, *spatial)``, label by label.

        Returns:
            A new index map with the dtype and meta data of the old one.

        Raises:
            ValueError: the map has several channels, or ``unit`` is mm and the voxel size is unknown.
        """
        from scipy.ndimage import generate_binary_structure, label

        dims = labels.ndim - 1
        voxel = math.prod(read_spacing(labels)) if self.unit == "mm" else 1.0
        structure = generate_binary_structure(dims, min(self.connectivity, dims))

        def change(mask: torch.Tensor) -> torch.Tensor:
            components, _ = label(mask.cpu().numpy(), structure=structure)
            kept = np.bincount(components.ravel()) * voxel >= self.min_size
            kept[0] = False
            return torch.from_numpy(kept[components])

        return change_labels(labels, self.applied_labels, change)


class RemoveSmallComponentsd(DictTransform, array=RemoveSmallComponents):
    """Dictionary version of :class:`RemoveSmallComponents`, with the same further arguments.

    Args:
        keys: items that hold index maps ``(1, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """
