"""What transforms read from the meta data of an item: its file, its voxel sizes and its spatial axes."""

from collections.abc import Iterable
from pathlib import Path

import torch
from monai.data import MetaTensor
from monai.utils import ImageMetaKey, MetaKeys


def find_file(item: torch.Tensor) -> str:
    """Return the path of the file that an item was loaded from, "" if its meta data do not name one."""
    return str(item.meta.get(ImageMetaKey.FILENAME_OR_OBJ, "")) if isinstance(item, MetaTensor) else ""


def note_files(item: torch.Tensor, files: Iterable[Path]) -> None:
    """Note in the meta data of an item the files that it was written to, as MONAI's ``SaveImage`` does for one file.

    Example:
        >>> mask = MetaTensor(torch.zeros(1, 2, 2))
        >>> note_files(mask, [Path("a_1.tif"), Path("a_2.tif")])
        >>> [path.name for path in list_written(mask)]
        ['a_1.tif', 'a_2.tif']
    """
    if isinstance(item, MetaTensor):
        item.meta[MetaKeys.SAVED_TO] = "\n".join(map(str, files))


def list_written(item: torch.Tensor) -> list[Path]:
    """Return the files that an item was written to, as far as its meta data name them."""
    text = str(item.meta.get(MetaKeys.SAVED_TO, "")) if isinstance(item, MetaTensor) else ""
    return [Path(line) for line in text.splitlines() if line]


def name_item(item: torch.Tensor, kind: str = "image") -> str:
    """Return the name of an item for a message: its kind and, if known, its file.

    Example:
        >>> name_item(torch.zeros(1, 2, 2), "mask"), name_item(MetaTensor([0], meta={"filename_or_obj": "a.png"}))
        ('mask', 'image a.png')
    """
    return f"{kind} {find_file(item)}".rstrip()


def read_spacing(tensor: torch.Tensor) -> tuple[float, ...]:
    """Return the voxel sizes of a tensor ``(C, *spatial)`` in mm, one per spatial axis.

    Pictures and slice files do not store their pixel size: MONAI's readers give them pixels of 1 mm.

    Raises:
        ValueError: the tensor has no meta data, or sizes that are not positive.

    Example:
        >>> read_spacing(MetaTensor(torch.zeros(1, 2, 2, 2), affine=torch.diag(torch.tensor([2.0, 1.0, 3.0, 1.0]))))
        (2.0, 1.0, 3.0)
    """
    if not isinstance(tensor, MetaTensor):
        raise ValueError(
            "lengths in mm need the voxel sizes of a MetaTensor, got a plain tensor: give lengths in voxels"
        )
    sizes = tuple(float(size) for size in tensor.pixdim)[: tensor.ndim - 1]
    if len(sizes) < tensor.ndim - 1 or not all(0 < size < float("inf") for size in sizes):
        raise ValueError(
            f"{name_item(tensor)} has voxels of {list(sizes)} mm, expected {tensor.ndim - 1} positive sizes"
        )
    return sizes


def read_axis(axis: int, spatial_dims: int) -> int:
    """Return a spatial axis, which may count from the end, as a number from 0.

    Raises:
        ValueError: there is no such axis, or no axis would be left.

    Example:
        >>> read_axis(-1, spatial_dims=3)
        2
    """
    if spatial_dims < 2 or not -spatial_dims <= axis < spatial_dims:
        raise ValueError(f"no slices along axis {axis} of an image with {spatial_dims} spatial axes")
    return axis % spatial_dims
