"""Bring image, truth and prediction of a case to one grid, to be drawn."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from monai.utils import ImageMetaKey
from numpy.typing import NDArray

from pipeline.handlers.run.batch_cases import list_case_ids
from pipeline.pictures.figures import as_rgb, resize_labels, resize_picture
from pipeline.pictures.image_file import read_pixels

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_RGB = 3
_PLANE = 2  # axes of a picture
# Affines that differ by less (voxels or mm) are equal.
_SAME = 1e-3


@dataclass(frozen=True)
class CasePicture:
    """A case or a slice of a volume, ready to be drawn."""

    image: NDArray[np.uint8]  #: (H, W, 3), 8 bit
    pred: NDArray[Any]  #: (H, W), labels or instances
    truth: NDArray[Any] | None  #: as ``pred``; None without a label


def check_channels(channels: Sequence[int] | None) -> list[int] | None:
    """Return the channels as a list.

    Raises:
        ValueError: there are neither one nor three.
    """
    if channels is not None and len(channels) not in (1, 3):
        raise ValueError(f"channels must name one or three channels, got {list(channels)}")
    return None if channels is None else list(channels)


def find_new_cases(engine: Engine, seen: Collection[str], max_cases: int) -> Iterator[tuple[str, Any]]:
    """Yield id and output of the last batch's cases that are not in ``seen``, until that has ``max_cases``.

    The caller adds each id to ``seen``. All but the first of several processes get nothing.
    """
    state: Any = engine.state
    if idist.get_rank() != 0 or len(seen) >= max_cases:
        return
    for item, output in zip(state.batch, state.output, strict=True):
        name = next(iter(list_case_ids(item)), f"case_{len(seen)}")
        if name not in seen and len(seen) < max_cases:
            yield name, output


def take_picture(
    image: torch.Tensor,
    label: torch.Tensor | None,
    pred: torch.Tensor,
    channels: Sequence[int] | None = None,
    max_side: int = 512,
) -> CasePicture:
    """Take one picture of a case; of a volume, the slice with the largest truth, else the largest prediction.

    The image may be on the network's grid: resized, rotated, padded or cropped. A 2-D picture is then read again from
    its file, which has the grid of the masks. Other images are resampled by their affine, or stretched without one.

    Args:
        image: (C, H, W) or (C, H, W, D).
        label: (1, H, W[, D]) labels or instances, or (K, H, W[, D]) one-hot; None if there is none.
        pred: as ``label``, on the same grid.
        channels: which of the image to show, one or three; by default all three if it has three, else the first, and
            the file's own colours where it is read again.
        max_side: a picture with a longer side is scaled down.

    Raises:
        ValueError: label and prediction differ in size.
    """
    guess, truth = _to_both(label, pred)
    grid = pred if label is None else label
    index = None if guess.ndim == _PLANE else _find_slice(guess, truth)
    if index is not None:
        guess, truth = guess[..., index], None if truth is None else truth[..., index]
    picture = _read_again(image, guess.shape) if index is None and channels is None else None
    if picture is None:
        picture = choose_channels(_bring_to_grid(image, grid, index), channels)
    scale = min(1.0, max_side / max(guess.shape))
    height, width = (max(1, round(length * scale)) for length in guess.shape)
    return CasePicture(
        resize_picture(as_rgb(picture), height, width),
        resize_labels(guess, height, width),
        None if truth is None else resize_labels(truth, height, width),
    )


def _to_labels(mask: torch.Tensor) -> NDArray[Any]:
    array = _to_numpy(mask)
    labels: NDArray[Any] = np.rint(array[0]).astype(int) if len(array) == 1 else array.argmax(axis=0)
    return labels


def _to_numpy(item: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = np.asarray(torch.as_tensor(item).detach().cpu().float())
    return array


def _find_slice(guess: NDArray[Any], truth: NDArray[Any] | None) -> int:
    shown = guess if truth is None or not truth.any() else truth
    area = (shown > 0).sum(axis=(0, 1))
    return int(area.argmax()) if area.any() else shown.shape[-1] // 2


def take_volume(
    image: torch.Tensor, label: torch.Tensor | None, pred: torch.Tensor
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Return image (C, H, W, D), prediction and truth (H, W, D) of a volume on the grid of its masks.

    Raises:
        ValueError: label and prediction differ in size.
    """
    guess, truth = _to_both(label, pred)
    return _bring_to_grid(image, pred if label is None else label, None), guess, truth


def _to_both(label: torch.Tensor | None, pred: torch.Tensor) -> tuple[NDArray[Any], NDArray[Any] | None]:
    guess = _to_labels(pred)
    truth = None if label is None else _to_labels(label)
    if truth is not None and truth.shape != guess.shape:
        raise ValueError(f"label and prediction must agree in size, got {truth.shape} and {guess.shape}")
    return guess, truth


def is_picture(image: torch.Tensor) -> bool:
    """Return whether an image was read from picture files, whose rows and columns are those of a screen."""
    return Path(_find_file(image)).suffix.lower() in _PICTURES


def _find_file(image: torch.Tensor) -> str:
    found = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ, "") if isinstance(image, MetaTensor) else ""
    return str(found[0] if isinstance(found, list | tuple) and found else found)


def _read_again(image: torch.Tensor, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return the pixels of the image's file; None if it is not a picture of this size."""
    if not is_picture(image):
        return None
    try:
        pixels = read_pixels(_find_file(image))
    except OSError:  # deleted meanwhile: use the network's image
        return None
    if pixels.shape[:2] != shape:
        return None
    return pixels[..., :_RGB] if pixels.shape[-1] >= _RGB else pixels[..., 0]


def choose_channels(plane: NDArray[Any], channels: Sequence[int] | None) -> NDArray[Any]:
    """Convert (C, H, W[, D]) to (H, W[, D]) or (H, W[, D], 3); of a channel that is missing, the last one is taken."""
    wanted = [min(channel, len(plane) - 1) for channel in channels or (range(_RGB) if len(plane) == _RGB else (0,))]
    picture = np.stack([plane[channel] for channel in wanted], axis=-1)
    return picture if picture.shape[-1] == _RGB else picture[..., 0]


def _bring_to_grid(image: torch.Tensor, grid: torch.Tensor, index: int | None) -> NDArray[Any]:
    """Return the image, or its slice ``index``, as (C, H, W[, D]) on the grid of a mask (1, H, W[, D])."""
    image, size = image.detach().cpu(), tuple(grid.shape[1:])
    if _lie_together(image, grid):
        return _to_numpy(image if index is None else image[..., index])
    if isinstance(image, MetaTensor) and isinstance(grid, MetaTensor):
        step = torch.eye(4, dtype=torch.float64)
        step[2, 3] = index or 0
        plane = size if index is None else (*size[:2], 1)
        target = grid.affine.detach().cpu().double() @ step
        resample = SpatialResample(mode="bilinear", padding_mode="border", align_corners=False)
        moved = _to_numpy(resample(image.float(), dst_affine=target, spatial_size=plane))
    else:
        mode = "bilinear" if len(size) == _PLANE else "trilinear"
        stretched = torch.nn.functional.interpolate(torch.as_tensor(image)[None].float(), size, mode=mode)[0]
        moved = _to_numpy(stretched if index is None else stretched[..., index, None])
    return moved if index is None else moved[..., 0]


def _lie_together(image: torch.Tensor, grid: torch.Tensor) -> bool:
    if image.shape[1:] != grid.shape[1:]:
        return False
    if not isinstance(image, MetaTensor) or not isinstance(grid, MetaTensor):
        return True
    return bool((image.affine.cpu().double() - grid.affine.cpu().double()).abs().max() < _SAME)
