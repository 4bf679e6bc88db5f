"""Pictures of segmentations: arrays in, 8-bit RGB arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rgb = NDArray[np.uint8]

#: Okabe and Ito's orange and sky blue: told apart by colour-blind readers, and not found in grey images.
PRED_COLOUR = (230, 159, 0)
TRUTH_COLOUR = (86, 180, 233)
_GAP = 4  # pixels between the tiles of a panel


def draw_overlay(image: Rgb, mask: NDArray[np.bool_], truth: NDArray[np.bool_] | None = None) -> Rgb:
    """Outline a mask, and the truth where it is known, on an image.

    The outline lies inside the mask and is one pixel wide, so what it encloses stays visible. Where both outlines
    fall on the same pixel the mask's is seen.

    Args:
        image: (H, W, 3), 8 bit.
        mask: (H, W), outlined in orange.
        truth: (H, W), outlined in blue.

    Returns:
        (H, W, 3), a copy.

    Raises:
        ValueError: the shapes do not agree.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((5, 5), dtype=bool)
        >>> mask[1:4, 1:4] = True
        >>> (draw_overlay(np.zeros((5, 5, 3), dtype=np.uint8), mask)[..., 0] > 0).astype(int)
        array([[0, 0, 0, 0, 0],
               [0, 1, 1, 1, 0],
               [0, 1, 0, 1, 0],
               [0, 1, 1, 1, 0],
               [0, 0, 0, 0, 0]])
    """
    from skimage.segmentation import find_boundaries

    drawn = image.copy()
    for outlined, colour in ((truth, TRUTH_COLOUR), (mask, PRED_COLOUR)):
        if outlined is None:
            continue
        if image.shape != (*outlined.shape, 3):
            raise ValueError(f"an image (H, W, 3) and a mask (H, W) are needed, got {image.shape} and {outlined.shape}")
        boundary = find_boundaries(outlined.astype(bool), mode="inner")
        drawn[boundary] = colour
    return drawn


def draw_panel(image: NDArray[Any], label: NDArray[Any], pred: NDArray[Any]) -> Rgb:
    """Draw image, truth and prediction side by side.

    Args:
        image: (H, W) or (H, W, 3), any range; it is stretched from its 1st to its 99th percentile.
        label: (H, W), foreground where it is not 0.
        pred: (H, W), foreground where it is not 0.

    Returns:
        (H, 3 W + 8, 3): the image, the image with the truth, the image with both outlines.

    Example:
        >>> import numpy as np
        >>> image, mask = np.linspace(0, 1, 64).reshape(8, 8), np.eye(8)
        >>> panel = draw_panel(image, mask, mask)
        >>> panel.shape, panel.dtype
        ((8, 32, 3), dtype('uint8'))
    """
    import numpy as np

    plain, nothing = to_rgb(image), np.zeros(label.shape, dtype=bool)
    gap = np.full((plain.shape[0], _GAP, 3), 255, dtype=np.uint8)
    tiles = [plain, draw_overlay(plain, nothing, label != 0), draw_overlay(plain, pred != 0, label != 0)]
    return np.concatenate([tiles[0], gap, tiles[1], gap, tiles[2]], axis=1)


def to_rgb(image: NDArray[Any]) -> Rgb:
    """Stretch an image's contrast to 8-bit RGB, each channel on its own.

    Args:
        image: (H, W) or (H, W, 3), any range; values that are not finite become black.

    Raises:
        ValueError: another shape.

    Example:
        >>> import numpy as np
        >>> to_rgb(np.array([[-1.0, 1.0]]))[..., 0]
        array([[  0, 255]], dtype=uint8)
    """
    import numpy as np

    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"an image (H, W) or (H, W, 3) is needed, got {image.shape}")
    values = np.where(np.isfinite(image), image, np.nan).astype(np.float64)
    if np.isnan(values).all():
        return np.zeros(image.shape, dtype=np.uint8)
    low, high = np.nanpercentile(values, (1, 99), axis=(0, 1))
    scaled = (values - low) / np.where(high > low, high - low, 1)
    stretched: Rgb = (np.nan_to_num(np.clip(scaled, 0, 1)) * 255).round().astype(np.uint8)
    return stretched
