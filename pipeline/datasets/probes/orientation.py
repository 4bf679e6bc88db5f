"""The EXIF orientation of pictures: how a viewer turns the stored pixels, and how to turn a mask back."""

from typing import Any

_TAG = 274
#: Orientations with a turn by 90 degrees, which exchanges rows and columns
QUARTER_TURNS = (5, 6, 7, 8)


def read_orientation(image: Any) -> int:
    """Return the orientation tag of an open Pillow image: 1 (upright) to 8; invalid values count as 1."""
    if image.format == "TIFF":
        value = image.tag_v2.get(_TAG, 1)
    elif "exif" in image.info or "Raw profile type exif" in image.info:
        value = image.getexif().get(_TAG, 1)
    else:
        return 1
    # Some writers store invalid values such as 0, which readers take for upright.
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turn_to_stored(array: Any, orientation: int) -> Any:
    """Return an array ``(H, W)`` of a picture as viewers show it, on the grid of the stored pixels.

    It undoes ``PIL.ImageOps.exif_transpose``.

    Example:
        >>> import numpy as np
        >>> turn_to_stored(np.array([[1, 2, 3]]), 6).tolist()
        [[3], [2], [1]]
    """
    if orientation in QUARTER_TURNS:
        turned = array.T
        return {5: turned, 6: turned[::-1], 7: turned[::-1, ::-1], 8: turned[:, ::-1]}[orientation]
    return {1: array, 2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1]}[orientation]
