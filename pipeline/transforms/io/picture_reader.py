"""MONAI's reader of pictures, with the rows first and meta data that say so."""

from typing import Any

import numpy as np
from monai.data import PILReader
from numpy.typing import NDArray


class PictureReader(PILReader):
    """Read a picture as (H, W), as Pillow, scikit-image and the file have it, for ``LoadImage`` and ``LoadImaged``.

    MONAI's ``PILReader`` with ``reverse_indexing=False`` gives (H, W) too, but its meta data still call that (W, H);
    MONAI Label believes them, and resizes a mask of a picture that is not square to the wrong shape::

        {"_target_": "LoadImaged", "keys": "image", "reader": "pipeline.transforms.io.picture_reader.PictureReader"}

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.png"
        >>> Image.new("L", (6, 4)).save(file)
        >>> reader = PictureReader()
        >>> pixels, meta = reader.get_data(reader.read(file))
        >>> pixels.shape, meta["spatial_shape"].tolist()
        ((4, 6), [4, 6])
    """

    def __init__(self) -> None:
        super().__init__(reverse_indexing=False)

    def _get_spatial_shape(self, img: Any) -> NDArray[np.int_]:
        return np.asarray((img.height, img.width))
