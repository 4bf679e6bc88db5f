"""Pictures of a converted dataset: the original file where every program reads it alike, else PNG."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np

from pipeline.datasets.convert.conversion import Conversion, Item
from pipeline.datasets.convert.reading import Grid, is_plain
from pipeline.datasets.convert.writing import place_file, write_picture
from pipeline.issues import InputError


def write_whole_picture(conversion: Conversion, item: Item, stem: str) -> tuple[str, Grid]:
    """Write the picture of a case, all channels in one file.

    Args:
        conversion: the dataset.
        item: a case that is one picture, or one file a channel.
        stem: path of the file to write, without ending.

    Returns:
        Path of the file, relative to the output, and the grid of the picture.

    Raises:
        InputError: no format of pictures holds such channels.
    """
    from PIL import Image

    source = conversion.root / item.case.image[0]
    if len(item.case.image) == 1 and is_plain(source):
        relative = stem + PurePosixPath(item.case.image[0]).suffix.lower()
        place_file(source, conversion.out / relative, conversion.link)
        with Image.open(source) as picture:
            return relative, Grid((picture.height, picture.width))
    volume = conversion.read_image(item)
    array = volume.array
    if len(array) not in (1, 3):
        raise InputError(f"{item.case.case_id}: {len(array)} channels; a picture has 1 or 3")
    relative = f"{stem}.png"
    write_picture(array[0] if len(array) == 1 else np.moveaxis(array, 0, -1), conversion.out / relative)
    return relative, volume.grid()
