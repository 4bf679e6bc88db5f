"""Take a few slices of a case, turned as a reader sees them, small enough to be kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from pipeline.handlers.logs.case_pictures import choose_channels, is_picture, take_picture, take_volume
from pipeline.pictures.figures import resize_labels, resize_picture, stretch_to_uint8
from pipeline.runs.case_slices import CaseSlices, pick_slices

MOST_SLICES = 16
SIDE = 256  # pixels of the longer side


def take_slices(
    case_id: str,
    image: torch.Tensor,
    label: torch.Tensor | None,
    pred: torch.Tensor,
    channels: Sequence[int] | None = None,
    *,
    is_instances: bool = False,
) -> CaseSlices:
    """Take up to 16 slices of at most 256 pixels of a volume or a stack, or one picture.

    A volume is turned as a radiologist sees it: axial, the patient's right on the left, the face up. Stacks of pictures
    stay as they are. Contrast is stretched over the whole volume.

    Args:
        case_id: the case.
        image: (C, H, W) or (C, H, W, D).
        label: as for `take_picture`.
        pred: as ``label``, on the same grid.
        channels: as for `take_picture`.
        is_instances: whether labels are objects.

    Raises:
        ValueError: label and prediction differ in size.
    """
    if pred.ndim == 3:
        flat = take_picture(image, label, pred, channels, SIDE)
        truth = None if flat.truth is None else _as_labels(flat.truth)[None]
        number = np.ones(1, dtype=np.int64)
        return CaseSlices(
            case_id, flat.image[None], _as_labels(flat.pred)[None], truth, number, is_instances=is_instances
        )
    volume, guess, known = take_volume(image, label, pred)
    colours = choose_channels(volume, channels)
    spacing = (1.0, 1.0)
    if isinstance(pred, MetaTensor) and not is_picture(image):
        colours, guess, known, spacing = _turn(colours, guess, known, pred.affine.cpu().numpy())
    wrong = (guess != 0) if known is None else ((guess != 0) != (known != 0) if is_instances else guess != known)
    shown = (guess != 0) if known is None else (guess != 0) | (known != 0)
    picked = pick_slices(wrong.sum(axis=(0, 1)), shown.any(axis=(0, 1)), MOST_SLICES)
    grey = _stretch(colours)
    scale = min(1.0, SIDE / max(guess.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in guess.shape[:2])
    return CaseSlices(
        case_id,
        np.stack([resize_picture(grey[:, :, place], height, width) for place in picked]),
        np.stack([_as_labels(resize_labels(guess[..., place], height, width)) for place in picked]),
        None
        if known is None
        else np.stack([_as_labels(resize_labels(known[..., place], height, width)) for place in picked]),
        np.array([place + 1 for place in picked], dtype=np.int64),
        total=guess.shape[2],
        aspect=spacing[0] / spacing[1],
        is_instances=is_instances,
    )


def _as_labels(labels: NDArray[Any]) -> NDArray[np.uint16]:
    return np.clip(labels, 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _turn(
    volume: NDArray[Any], guess: NDArray[Any], truth: NDArray[Any] | None, affine: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, tuple[float, float]]:
    """Return the arrays as rows, columns and axial slices, and the height and width of a pixel in mm."""
    import nibabel as nib  # bundles of pictures do not need it
    from nibabel.orientations import OrientationError

    turn = nib.io_orientation(affine)
    if np.isnan(turn).any():
        raise ValueError("the affine has no direction for an axis")
    sizes = nib.affines.voxel_sizes(affine)
    spacing = [float(sizes[int(np.flatnonzero(turn[:, 0] == axis)[0])]) for axis in range(3)]

    def show(array: NDArray[Any]) -> NDArray[Any]:
        try:
            upright = nib.apply_orientation(array, turn)  # axes to the right, anterior and superior
        except OrientationError as error:
            raise ValueError(str(error)) from error
        shown: NDArray[Any] = np.swapaxes(upright, 0, 1)[::-1, ::-1]
        return shown

    return show(volume), show(guess), None if truth is None else show(truth), (spacing[1], spacing[0])


def _stretch(volume: NDArray[Any]) -> NDArray[np.uint8]:
    if volume.ndim == 3:
        return stretch_to_uint8(volume)
    return np.stack([stretch_to_uint8(volume[..., channel]) for channel in range(volume.shape[-1])], axis=-1)
