"""Small pictures of image files for HTML reports, as data URIs; a bad file never raises."""

import base64
import io
import warnings
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets.files import check_presence
from pipeline.datasets.probes import VOLUMES, expected_format
from pipeline.datasets.probes.itk_volume import read_array
from pipeline.pictures.figures import stretch_to_uint8

SIZE = 256  # pixels of the longer side
_QUALITY = 85


def draw_data_uri(root: Path, path: str) -> str:
    """Return a JPEG of at most 256 x 256 pixels as a data URI, "" for a file that cannot be drawn.

    A volume is drawn by its middle slice. Other values than 8-bit are scaled from their 1st to their 99th percentile.

    Args:
        root: the dataset's folder.
        path: the file, relative to ``root``; paths that leave it are not followed.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or check_presence(root, path) is not None:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = _to_picture(_read_plane(root / path, expected_format(path)))
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=_QUALITY)
    except Exception:
        # Readers raise all kinds of errors for a damaged file; the finding next to the picture names its damage.
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _read_plane(path: Path, form: str) -> NDArray[Any]:
    """Return (H, W) or (H, W, 3)."""
    if form == "NIfTI":
        import nibabel

        volume: Any = nibabel.load(path)
        middle = tuple(size // 2 for size in volume.shape[2:])
        # The first axis runs from left to right, the second upwards.
        return np.rot90(np.asarray(volume.dataobj[(slice(None), slice(None), *middle)]))
    if form in VOLUMES:
        array = read_array(path)[0]
        return np.rot90(array[:, :, array.shape[2] // 2] if array.ndim > 2 else array)
    if form == "DICOM":
        import itk

        array = itk.array_from_image(itk.imread(str(path)))
        return array[len(array) // 2] if array.ndim == 3 and array.shape[-1] > 4 else np.squeeze(array)
    with Image.open(path) as image:
        # JPEG decodes faster to a fraction of its size.
        image.draft(None, (2 * SIZE, 2 * SIZE))
        if image.mode in ("P", "CMYK", "YCbCr", "LAB", "PA", "RGBA", "LA", "1"):
            return np.asarray(image.convert("RGB"))
        return np.asarray(image)


def _to_picture(plane: NDArray[Any]) -> Image.Image:
    if plane.dtype != np.uint8:
        plane = stretch_to_uint8(plane)
    if plane.ndim == 3 and plane.shape[-1] != 3:
        plane = plane[..., 0]
    picture = Image.fromarray(np.ascontiguousarray(plane))
    scale = SIZE / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
