"""Pictures of a converted dataset: the original file if every program reads the same pixels from it, else PNG."""

from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from pipeline.datasets.convert.conversion import Conversion, Item
from pipeline.datasets.convert.reading import Grid, is_plain
from pipeline.datasets.convert.writing import place_file, write_picture
from pipeline.datasets.files import locate_file
from pipeline.issues import InputError


def write_whole_picture(conversion: Conversion, item: Item, stem: str) -> tuple[str, Grid]:
    """Write the picture of a case, all channels in one file at ``stem`` with the fitting ending.

    Returns:
        Path of the file relative to the output, and the grid of the picture.

    Raises:
        InputError: the number of channels is neither 1 nor 3.
    """
    relative = stem + PurePosixPath(item.case.image[0]).suffix.lower()
    grid = place_picture(conversion, item, relative)
    if grid is not None:
        return relative, grid
    volume = conversion.read_image(item)
    array = volume.array
    if len(array) not in (1, 3):
        raise InputError(f"{item.case.case_id}: {len(array)} channels; a picture has 1 or 3")
    relative = f"{stem}.png"
    write_picture(array[0] if len(array) == 1 else np.moveaxis(array, 0, -1), conversion.out / relative)
    return relative, volume.grid()


def place_picture(conversion: Conversion, item: Item, relative: str, *, channels: bool = True) -> Grid | None:
    """Copy or link a picture unchanged; it may have several channels only if ``channels`` allows it.

    Returns:
        Its grid; None if it is not a single plain file and was not placed.
    """
    source = locate_file(conversion.root, item.case.image[0])
    if len(item.case.image) != 1 or not is_plain(source):
        return None
    with Image.open(source) as picture:
        if len(picture.getbands()) != 1 and not channels:
            return None
        grid = Grid((picture.height, picture.width))
    place_file(source, conversion.out / relative, conversion.link)
    return grid
