"""Pictures of a volume with its mask: three planes through the mask, or the slice with most foreground."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.pictures.figures import GAP, Rgb, draw_labels, resize_labels, resize_picture, stretch_to_uint8

_AXIAL = 2


@dataclass(frozen=True)
class Plane:
    """A slice as a radiologist sees it: the patient's right on the left, head or face up."""

    image: NDArray[np.uint8]  #: (H, W), 8 bit
    labels: NDArray[Any]  #: (H, W), 0 is background
    size: tuple[float, float]  #: height and width in mm


def draw_planes(volume: NDArray[Any], labels: NDArray[Any], affine: NDArray[Any], height: int = 256) -> Rgb:
    """Draw the axial, coronal and sagittal plane through the mask's centre, labels outlined, all at one scale.

    Args:
        volume: (X, Y, Z), any range and orientation.
        labels: (X, Y, Z), 0 is background; without foreground the planes cross the volume's centre.
        affine: (4, 4), voxel index to mm, RAS.
        height: pixels of the tallest plane.

    Returns:
        (height, W, 3).

    Example:
        >>> draw_planes(np.zeros((4, 6, 8)), np.zeros((4, 6, 8), int), np.eye(4), height=80).shape
        (80, 148, 3)
    """
    planes = list(cut_planes(volume, labels, affine))
    scale = height / max(plane.size[0] for plane in planes)
    tiles = []
    for plane in planes:
        rows, columns = (max(1, round(length * scale)) for length in plane.size)
        picture = resize_picture(np.repeat(plane.image[..., None], 3, axis=-1), rows, columns)
        tile = np.zeros((height, columns, 3), dtype=np.uint8)
        tile[:rows] = draw_labels(picture, resize_labels(plane.labels, rows, columns))
        tiles += [np.full((height, GAP, 3), 255, dtype=np.uint8), tile]
    return np.concatenate(tiles[1:], axis=1)


def cut_planes(volume: NDArray[Any], labels: NDArray[Any], affine: NDArray[Any]) -> Iterator[Plane]:
    """Yield the axial, coronal and sagittal plane of `draw_planes`."""
    shown, numbers, spacing = _turn_to_ras(volume, labels, affine)
    found = np.argwhere(numbers > 0)
    centre = np.round(found.mean(axis=0)) if len(found) else np.array(numbers.shape) // 2
    for axis in (_AXIAL, 1, 0):
        yield _cut(shown, numbers, spacing, axis, int(centre[axis]))


def cut_largest(volume: NDArray[Any], labels: NDArray[Any], affine: NDArray[Any]) -> Plane:
    """Return the axial plane with most foreground, or the middle one without any; arguments as in `draw_planes`."""
    shown, numbers, spacing = _turn_to_ras(volume, labels, affine)
    area = (numbers > 0).sum(axis=(0, 1))
    index = int(area.argmax()) if area.any() else numbers.shape[_AXIAL] // 2
    return _cut(shown, numbers, spacing, _AXIAL, index)


def _turn_to_ras(
    volume: NDArray[Any], labels: NDArray[Any], affine: NDArray[Any]
) -> tuple[NDArray[np.uint8], NDArray[Any], list[float]]:
    """Return volume (8 bit) and labels with axes to the right, anterior and superior, and their voxel sizes in mm."""
    import nibabel as nib

    if volume.shape != labels.shape or volume.ndim != 3:
        raise ValueError(f"expected a volume and labels (X, Y, Z), got {volume.shape} and {labels.shape}")
    turn = nib.io_orientation(affine)
    sizes = nib.affines.voxel_sizes(affine)
    spacing = [float(sizes[int(np.flatnonzero(turn[:, 0] == axis)[0])]) for axis in range(3)]
    return nib.apply_orientation(stretch_to_uint8(volume), turn), nib.apply_orientation(labels, turn), spacing


def _cut(volume: NDArray[np.uint8], labels: NDArray[Any], spacing: list[float], axis: int, index: int) -> Plane:
    column, row = (other for other in range(3) if other != axis)
    image, numbers = (np.take(array, index, axis=axis).T[::-1, ::-1] for array in (volume, labels))
    return Plane(image, numbers, (volume.shape[row] * spacing[row], volume.shape[column] * spacing[column]))
