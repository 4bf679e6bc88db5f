"""Several masks of one picture, loaded as channels."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import ImageMetaKey

from pipeline.datasets.probes.pixels import merge_channels
from pipeline.flags import read_flag
from pipeline.pictures.image_file import read_pixels
from pipeline.transforms.dictionary import DictTransform


class LoadMasks(Transform):
    """Load the masks of a picture, one file per object, as channels; ``EncodeMask(..., unite=True)`` unites them.

    Datasets with several lesions per picture have files ``x_mask.png`` and ``x_mask_1.png``, of 1 bit, grey, or grey
    saved in colour. MONAI's readers would give the first another range than the second, and the third three channels.

    Args:
        reverse_indexing: give the masks as (W, H), as MONAI's ``PILReader`` does by default; False gives (H, W). Use
            the setting of the image's reader.
        dtype: dtype of the masks.

    Example:
        >>> import pathlib, tempfile
        >>> from PIL import Image
        >>> files = [pathlib.Path(tempfile.mkdtemp()) / f"a_mask{end}.png" for end in ("", "_1")]
        >>> for file, mode in zip(files, ("L", "RGB")):
        ...     file.parent.mkdir(exist_ok=True)
        ...     Image.new(mode, (6, 4), "white").save(file)
        >>> tuple(LoadMasks(reverse_indexing=False)(files).shape)
        (2, 4, 6)
    """

    def __init__(self, reverse_indexing: bool | str = True, dtype: Any = torch.float32) -> None:
        self.reverse_indexing = read_flag(reverse_indexing, "reverse_indexing")
        self.dtype = dtype

    def __call__(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> MetaTensor:
        """Read the masks.

        Args:
            paths: the files, or a single one.

        Returns:
            Stored values ``(N, W, H)``, or ``(N, H, W)`` without ``reverse_indexing``, a channel for each file.

        Raises:
            OSError: a file cannot be opened, is damaged or truncated, or holds several pages.
            ValueError: there is no file, a file is coloured or transparent, or two files differ in size.
        """
        files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not files:
            raise ValueError("expected at least one mask, got an empty list")
        masks = [_read(file) for file in files]
        for file, mask in zip(files, masks, strict=True):
            if mask.shape != masks[0].shape:
                sizes = f"{files[0]} is {masks[0].shape}, {file} is {mask.shape}"
                raise ValueError(f"masks of one picture differ in size: {sizes}")
        # int32 first: torch has no arithmetic for uint16.
        stored = np.stack(masks).astype(np.int32)
        stored = stored.transpose(0, 2, 1) if self.reverse_indexing else stored
        meta = {
            ImageMetaKey.FILENAME_OR_OBJ: os.fspath(files[0]),
            ImageMetaKey.SPATIAL_SHAPE: np.array(stored.shape[1:]),
        }
        pixels = torch.as_tensor(np.ascontiguousarray(stored)).to(self.dtype)
        return MetaTensor(pixels, affine=torch.eye(4, dtype=torch.float64), meta=meta)


def _read(file: str | os.PathLike[str]) -> Any:
    try:
        return merge_channels(read_pixels(file, "mask"))
    except ValueError as error:
        raise ValueError(f"the mask {file} has {error}; save it in grey") from None


class LoadMasksd(DictTransform, array=LoadMasks):
    """Dictionary version of :class:`LoadMasks`, with the same further arguments.

    Args:
        keys: items that hold the masks' paths.
        allow_missing_keys: skip keys that a case does not have.
    """
