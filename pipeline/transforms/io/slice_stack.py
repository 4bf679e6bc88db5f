"""Stacks of 2-D slice files read as one volume, and masks written back as one file per slice."""

import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import ImageMetaKey

from pipeline.flags import read_flag
from pipeline.pictures.figures import draw_labels, draw_overlay
from pipeline.pictures.image_file import read_pixels, to_uint8, write_picture
from pipeline.transforms.dictionary import DictTransform, SaverDictTransform
from pipeline.transforms.items import note_files

#: Meta key for the paths of a stack's slices, joined by line ends (a list would not survive collation)
SLICE_PATHS = "slice_paths"

# Masks of other slices, such as JPEG, are written as PNG, because JPEG would change their values.
_TIFF = (".tif", ".tiff")
_HIGHEST = 65_535


class LoadImageStack(Transform):
    """Load the 2-D slice files of a patient, in the given order, as one volume.

    MONAI's readers stack a list of RGB files along the channels. Here they are stacked along a new last axis, so that
    MONAI's tools for volumes (statistics per volume, ``SliceInferer``, Dice per patient, connected components) apply.
    Rows come first, as in the file: unlike ``LoadImage``, this does not transpose to (W, H), so a mask is written in
    the orientation in which the image was read.

    Args:
        dtype: dtype of the volume.

    Example:
        >>> import numpy as np, tempfile, pathlib
        >>> from PIL import Image
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for k in (1, 2, 3):
        ...     Image.fromarray(np.full((4, 6, 3), k, np.uint8)).save(folder / f"a_{k}.tif")
        >>> volume = LoadImageStack()([folder / f"a_{k}.tif" for k in (1, 2, 3)])
        >>> tuple(volume.shape), volume[0, 0, 0].tolist()
        ((3, 4, 6, 3), [1.0, 2.0, 3.0])
    """

    def __init__(self, dtype: Any = torch.float32) -> None:
        self.dtype = dtype

    def __call__(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> MetaTensor:
        """Read the slices.

        Args:
            paths: slice files in their order along the volume; a single path is a stack of one.

        Returns:
            Volume ``(C, H, W, D)``; its meta data hold the paths.

        Raises:
            OSError: a file cannot be opened, is damaged or truncated, or holds several pages.
            ValueError: there is no slice, or two slices differ in size or channels.
        """
        files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        if not files:
            raise ValueError("a slice stack needs at least one file, got an empty list")
        slices = [read_pixels(path, "slice") for path in files]
        for path, pixels in zip(files, slices, strict=True):
            if pixels.shape != slices[0].shape:
                raise ValueError(
                    f"slices of one stack differ in size: {files[0]} is {slices[0].shape}, {path} is {pixels.shape}"
                )
        volume = np.stack(slices, axis=-1).transpose(2, 0, 1, 3)
        meta = {
            ImageMetaKey.FILENAME_OR_OBJ: str(files[0]),
            ImageMetaKey.SPATIAL_SHAPE: np.array(volume.shape[1:]),
            SLICE_PATHS: "\n".join(str(path) for path in files),
        }
        return MetaTensor(torch.as_tensor(np.ascontiguousarray(volume)).to(self.dtype), affine=torch.eye(4), meta=meta)


class LoadImageStackd(DictTransform, array=LoadImageStack):
    """Dictionary version of :class:`LoadImageStack`, with the same further arguments.

    Args:
        keys: items that hold the slices' paths.
        allow_missing_keys: skip keys that a case does not have.
    """


class SaveImageStack(Transform):
    """Write a predicted volume as one mask file per slice, on the grid of the slices and in their format.

    Masks are files ``<output_dir>/<folder of the slice>/<slice name>_<postfix>.tif`` with background 0 and foreground
    ``foreground_value``, or the value of each label; 8-bit unless a value needs 16 bits. JPEG slices get PNG masks.
    Files are written under a temporary name and renamed, so an existing mask is complete.

    Args:
        output_dir: folder of the results.
        postfix: added to the slice's name, so that no mask has the name of an input file.
        foreground_value: grey value of the foreground.
        overlay: also write ``<slice name>_overlay.png``: the slice with the mask's outline.
        channels: channels of the image file shown as red, green and blue in the overlay.
        values: value of each label, background first, for masks of several labels; replaces ``foreground_value``.
        format: "png" or "tiff" instead of the format of the slices.

    Raises:
        ValueError: ``postfix`` is empty, ``foreground_value`` is not in 1 to 255, a value not in 0 to 65535, or
            ``format`` is unknown.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        postfix: str = "pred",
        foreground_value: int = 255,
        overlay: bool | str = False,
        channels: Sequence[int] = (0, 1, 2),
        values: Sequence[int] | None = None,
        format: Literal["png", "tiff"] | None = None,
    ) -> None:
        if not postfix:
            raise ValueError("postfix must not be empty: a mask would get the name of its image")
        if not 1 <= foreground_value <= 255:
            raise ValueError(f"foreground_value must lie in 1 to 255, got {foreground_value}")
        if format not in (None, "png", "tiff"):
            raise ValueError(f"format must be 'png' or 'tiff', got {format!r}")
        table = (0, foreground_value) if values is None else tuple(values)
        if len(table) < 2 or not all(0 <= value <= _HIGHEST for value in table):
            raise ValueError(f"values must list at least two numbers from 0 to {_HIGHEST}, got {list(table)}")
        self.output_dir = Path(output_dir)
        self.postfix = postfix
        self.table = np.array(table, dtype=np.uint8 if max(table) <= 255 else np.uint16)
        self.overlay = read_flag(overlay, "overlay")
        self.channels = tuple(channels)
        self.format = format

    def __call__(self, mask: MetaTensor) -> list[Path]:
        """Write the masks.

        Args:
            mask: ``(1, H, W, D)`` of zeros and ones, or of label ids if ``values`` are given, with the meta data of the
                loaded stack.

        Returns:
            The files written, masks first, in the order of the slices.

        Raises:
            ValueError: the mask has several channels or invalid values or is not on the grid of the slices, or two
                slices would get the same file.
        """
        paths = [Path(line) for line in str(mask.meta[SLICE_PATHS]).split("\n")]
        pixels = np.asarray(mask.detach().cpu().float())
        grid = tuple(int(size) for size in mask.meta[ImageMetaKey.SPATIAL_SHAPE])
        if pixels.shape != (1, *grid) or grid[-1] != len(paths):
            raise ValueError(f"expected a mask of the loaded shape {(1, *grid)}, got {pixels.shape}")
        if not np.isin(pixels, range(len(self.table))).all():
            what = "zeros and ones" if len(self.table) == 2 else f"labels from 0 to {len(self.table) - 1}"
            raise ValueError(f"expected a mask of {what}; discretise it first (AsDiscreted)")
        labels = pixels[0].astype(np.uint8)
        targets = [self._target(path) for path in paths]
        if len(set(targets)) < len(targets):
            raise ValueError(f"two slices of {paths[0].parent} differ only in their suffix and would get the same mask")
        for k, target in enumerate(targets):
            kind = "TIFF" if target.suffix in _TIFF else "PNG"
            write_picture(self.table[labels[..., k]], target, kind)
        return targets + self._write_overlays(paths, labels)

    def _target(self, path: Path) -> Path:
        suffix = path.suffix.lower() if path.suffix.lower() in _TIFF else ".png"
        suffix = {"png": ".png", "tiff": ".tif"}[self.format] if self.format else suffix
        return self.output_dir / path.parent.name / f"{path.stem}_{self.postfix}{suffix}"

    def _write_overlays(self, paths: Sequence[Path], labels: np.ndarray) -> list[Path]:
        if not self.overlay:
            return []
        written = []
        for k, path in enumerate(paths):
            image = read_pixels(path, "slice")
            shown = [min(channel, image.shape[-1] - 1) for channel in self.channels]
            target = self.output_dir / path.parent.name / f"{path.stem}_overlay.png"
            picture, mask = to_uint8(image[..., shown]), labels[..., k]
            binary = len(self.table) == 2
            write_picture(draw_overlay(picture, mask > 0) if binary else draw_labels(picture, mask), target, "PNG")
            written.append(target)
        return written


class SaveImageStackd(SaverDictTransform, array=SaveImageStack):
    """Dictionary version of :class:`SaveImageStack`, with the same further arguments.

    Args:
        keys: items that hold masks ``(1, H, W, D)``.
        allow_missing_keys: skip keys that a case does not have.
    """

    def apply(self, data: dict[Hashable, Any], key: Hashable) -> None:
        """Write the masks of a case."""
        slices = str(data[key].meta[SLICE_PATHS]).count("\n") + 1
        note_files(data[key], self.transform(data[key])[:slices])
