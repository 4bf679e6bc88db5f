"""Pictures of segmentations: arrays in, 8-bit RGB arrays out."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries

Rgb: TypeAlias = NDArray[np.uint8]

#: Orange and sky blue of Okabe and Ito: distinct for colour-blind readers, and absent from grey images
PRED_COLOUR = (230, 159, 0)
TRUTH_COLOUR = (86, 180, 233)
#: All colours of Okabe and Ito except black; label 1 has the first, label 8 the first again
PALETTE = (
    *(PRED_COLOUR, TRUTH_COLOUR, (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
GAP = 4  # pixels between the tiles of a panel


def draw_overlay(image: Rgb, mask: NDArray[np.bool_], truth: NDArray[np.bool_] | None = None) -> Rgb:
    """Outline a mask, and the truth where it is known, on an image.

    The outline lies inside the mask and is one pixel wide, so the image stays visible. Where both outlines share a
    pixel, the mask's colour is drawn.

    Args:
        image: (H, W, 3), 8 bit.
        mask: (H, W), outlined in orange.
        truth: (H, W), outlined in blue.

    Returns:
        (H, W, 3), a copy.

    Raises:
        ValueError: the shapes do not agree.

    Example:
        >>> mask = np.zeros((5, 5), dtype=bool)
        >>> mask[1:4, 1:4] = True
        >>> (draw_overlay(np.zeros((5, 5, 3), dtype=np.uint8), mask)[..., 0] > 0).astype(int)
        array([[0, 0, 0, 0, 0],
               [0, 1, 1, 1, 0],
               [0, 1, 0, 1, 0],
               [0, 1, 1, 1, 0],
               [0, 0, 0, 0, 0]])
    """
    drawn = image.copy()
    for outlined, colour in ((truth, TRUTH_COLOUR), (mask, PRED_COLOUR)):
        if outlined is None:
            continue
        if image.shape != (*outlined.shape, 3):
            raise ValueError(f"expected an image (H, W, 3) and a mask (H, W), got {image.shape} and {outlined.shape}")
        drawn[find_boundaries(outlined.astype(bool), mode="inner")] = colour
    return drawn


def draw_labels(image: Rgb, labels: NDArray[Any]) -> Rgb:
    """Outline every label or instance on an image in its colour; touching ones stay separate.

    Args:
        image: (H, W, 3), 8 bit.
        labels: (H, W), integers, 0 is background; colours repeat after seven.

    Returns:
        (H, W, 3), a copy.

    Raises:
        ValueError: the shapes do not agree.

    Example:
        >>> labels = np.repeat([[0, 1, 2]], 3, axis=0)
        >>> draw_labels(np.zeros((3, 3, 3), dtype=np.uint8), labels)[1].tolist()
        [[0, 0, 0], [230, 159, 0], [86, 180, 233]]
    """
    if image.shape != (*labels.shape, 3):
        raise ValueError(f"expected an image (H, W, 3) and labels (H, W), got {image.shape} and {labels.shape}")
    numbers = labels.astype(int)
    boundary = find_boundaries(numbers, mode="inner")
    drawn = image.copy()
    drawn[boundary] = colour_labels(numbers)[boundary]
    return drawn


def colour_labels(labels: NDArray[Any]) -> Rgb:
    """Return each label in its colour on black; see `draw_labels`.

    Args:
        labels: (H, W), integers from 0.

    Returns:
        (H, W, 3), 8 bit.
    """
    numbers = labels.astype(int)
    table = np.array([(0, 0, 0), *PALETTE], dtype=np.uint8)
    coloured: Rgb = table[np.where(numbers > 0, (numbers - 1) % len(PALETTE) + 1, 0)]
    return coloured


def draw_panel(image: NDArray[Any], label: NDArray[Any], pred: NDArray[Any]) -> Rgb:
    """Draw image, truth and prediction side by side.

    Args:
        image: (H, W) or (H, W, 3), any range; it is stretched from its 1st to its 99th percentile.
        label: (H, W), labels or instances, 0 is background.
        pred: as ``label``.

    Returns:
        (H, 3 W + 8, 3): the image, the image with the truth, the image with both outlines. With several labels, the
        last has the prediction only and every label has its colour.

    Example:
        >>> image, mask = np.linspace(0, 1, 64).reshape(8, 8), np.eye(8)
        >>> panel = draw_panel(image, mask, mask)
        >>> panel.shape, panel.dtype
        ((8, 32, 3), dtype('uint8'))
    """
    plain = as_rgb(image)
    gap = np.full((plain.shape[0], GAP, 3), 255, dtype=np.uint8)
    if max(label.max(), pred.max()) > 1:
        truth, both = draw_labels(plain, label), draw_labels(plain, pred)
    else:
        nothing = np.zeros(label.shape, dtype=bool)
        truth, both = draw_overlay(plain, nothing, label != 0), draw_overlay(plain, pred != 0, label != 0)
    return np.concatenate([plain, gap, truth, gap, both], axis=1)


def resize_picture(image: Rgb, height: int, width: int) -> Rgb:
    """Return an 8-bit picture (H, W, 3) scaled to a size, smoothly."""
    if image.shape[:2] == (height, width):
        return image
    # BOX averages the pixels that each new pixel covers, and does not interpolate when it enlarges.
    scaled: Rgb = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
    return scaled


def resize_labels(labels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return labels (H, W) scaled to a size by nearest neighbours, so that no new label arises."""
    rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
    return labels[rows][:, columns]


def as_rgb(image: NDArray[Any]) -> Rgb:
    """Return 8-bit colours unchanged, and any other image as `to_rgb` does."""
    return image if image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3 else to_rgb(image)


def to_rgb(image: NDArray[Any]) -> Rgb:
    """Stretch an image's contrast to 8-bit RGB, each channel separately.

    Args:
        image: (H, W) or (H, W, 3), any range; values that are not finite become black.

    Raises:
        ValueError: another shape.

    Example:
        >>> to_rgb(np.array([[-1.0, 1.0]]))[..., 0]
        array([[  0, 255]], dtype=uint8)
    """
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"expected an image (H, W) or (H, W, 3), got {image.shape}")
    values = np.where(np.isfinite(image), image, np.nan).astype(np.float64)
    if np.isnan(values).all():
        return np.zeros(image.shape, dtype=np.uint8)
    low, high = np.nanpercentile(values, (1, 99), axis=(0, 1))
    scaled = (values - low) / np.where(high > low, high - low, 1)
    stretched: Rgb = (np.nan_to_num(np.clip(scaled, 0, 1)) * 255).round().astype(np.uint8)
    return stretched


def stretch_to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale an array from its 1st and 99th percentile to 0 and 255; values that are not finite count as 0."""
    values = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, (1, 99))
    return (np.clip((values - low) / max(float(high - low), 1e-12), 0, 1) * 255).astype(np.uint8)
