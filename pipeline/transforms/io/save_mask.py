"""Predicted masks written as one file per case, on the grid of the image and in a matching format."""

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import MetaKeys
from numpy.typing import NDArray

from pipeline.flags import read_flag
from pipeline.issues import InputError
from pipeline.pictures.gallery import draw_gallery
from pipeline.pictures.image_file import write_picture
from pipeline.transforms.dictionary import SaverDictTransform
from pipeline.transforms.io.dicom_segmentation import write_segmentation
from pipeline.transforms.io.mask_formats import ENDINGS, require_format
from pipeline.transforms.io.source_files import SourceFile, open_source, require_place
from pipeline.transforms.items import find_file, note_files

_LIMITS = {"uint8": 255, "uint16": 65_535}
_CASE = "case_id"


class SaveImageMask(Transform):
    """Write a mask on the grid of the file that its image was loaded from.

    ==================  =========================  ==================================================================
    image               mask                       grid
    ==================  =========================  ==================================================================
    PNG, JPEG, BMP      PNG                        the file's rows and columns
    TIFF                TIFF
    NIfTI               ``.nii.gz``                sform, qform, codes, voxel sizes and units of the image's header
    MetaImage, NRRD     ``.mha``, ``.nrrd``        origin, voxel sizes and directions of the image's header
    DICOM series        ``.nii.gz``                the affine that MONAI read, as sform and qform
    ==================  =========================  ==================================================================

    Files are written under a temporary name and renamed, so an existing mask is complete. Nothing is resampled:
    ``Invertd`` must have brought the mask back to the image's grid, and this is checked. MONAI's ``SaveImage`` writes
    in place, uses one format for all cases, transposes pictures by default, drops sform and qform codes and units,
    writes a mask on another grid without a word, and draws no overlay.

    Args:
        output_dir: folder of the results.
        postfix: added to the case's name, so that no mask has the name of an input file.
        values: value of each label in the file: a list by label (``[0, 255]``), or a mapping (with JSON's text keys:
            ``{"1": 255}``) in which 0 stays 0. By default labels and instances keep their numbers.
        dtype: "uint8" or "uint16"; by default "uint8", but "uint16" if one of the ``values`` needs it.
        overlay: also write ``<name>_overlay.png``: the picture with the outline of every label; for a volume, the three
            planes through the mask's centre.
        figure: also write ``<name>_figure.png``: image, prediction and overlay side by side; for a volume, the axial
            slice with the largest prediction.
        channels: channels of the image file to show, one (grey) or three (red, green, blue); by default its colours or
            its first channel.
        format: "png", "tiff", "nifti" or "seg" (a DICOM segmentation, see `write_segmentation`) instead of the format
            in the table.
        names: name of each label, for "seg".

    Raises:
        ValueError: ``postfix`` is empty, ``dtype`` or ``format`` is unknown, ``values`` do not fit the type, or
            ``channels`` does not have one or three entries.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (6, 4)).save(folder / "a.jpg")
        >>> mask = MetaTensor(torch.ones(1, 4, 6), meta={"filename_or_obj": str(folder / "a.jpg")})
        >>> (written,) = SaveImageMask(folder / "out", values=[0, 255])(mask)
        >>> written.name, Image.open(written).size, Image.open(written).getextrema()
        ('a_pred.png', (6, 4), (255, 255))
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        postfix: str = "pred",
        values: Mapping[int | str, int] | Sequence[int] | None = None,
        dtype: Literal["uint8", "uint16"] | None = None,
        overlay: bool | str = False,
        figure: bool | str = False,
        channels: Sequence[int] | None = None,
        format: Literal["nifti", "png", "tiff", "seg"] | None = None,
        names: Mapping[int | str, str] | None = None,
    ) -> None:
        if not postfix:
            raise ValueError("postfix must not be empty: a mask would get the name of its image")
        if dtype not in (None, *_LIMITS):
            raise ValueError(f"dtype must be 'uint8' or 'uint16', got {dtype!r}")
        if channels is not None and len(channels) not in (1, 3):
            raise ValueError(f"channels must list one or three channels, got {list(channels)}")
        if format not in (None, *ENDINGS):
            raise ValueError(f"format must be one of {', '.join(ENDINGS)}, got {format!r}")
        self.output_dir = Path(output_dir)
        self.postfix = postfix
        self.values = None if values is None else _read_values(values, dtype or "uint16")
        wide = max((self.values or {0: 0}).values()) > _LIMITS["uint8"]
        self.dtype = dtype or ("uint16" if wide else "uint8")
        self.overlay = read_flag(overlay, "overlay")
        self.figure = read_flag(figure, "figure")
        self.channels = channels
        self.format = format
        self.names = {int(label): str(name) for label, name in (names or {}).items()}
        self._sources: dict[Path, str] = {}

    def __call__(self, mask: MetaTensor, case_id: str | None = None) -> list[Path]:
        """Write the mask.

        Args:
            mask: ``(1, H, W)`` or ``(1, X, Y, Z)`` of whole numbers from 0, with the meta data of the loaded image.
            case_id: name of the case for the files' names; ``/`` makes folders. By default the image's name.

        Returns:
            The files written, the mask first.

        Raises:
            ValueError: the mask has several channels, invalid values, no meta data, or is not on the image's grid.
            InputError: a file cannot be written, or two images would get the same file.
        """
        path = find_file(mask)
        if not path:
            raise ValueError("the mask has no path of its image: Invertd copies the image's meta data to it")
        source = open_source(path, mask.meta)
        labels = self._check(mask, source, path)
        name = check_name(case_id or source.stem)
        if self.format:
            require_format(path, self.format)
        ending = ENDINGS[self.format] if self.format else source.suffix
        target = self.output_dir / f"{name}_{self.postfix}{ending}"
        if self._sources.setdefault(target, path) != path:
            raise InputError(f"{path} and {self._sources[target]} would get the same mask {target}; rename one of them")
        try:
            return self._write(source, labels, name, target)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(
                f"cannot write the results of {path} to {self.output_dir}: {reason}; "
                "free some space or choose another folder with --output_dir"
            ) from None

    def _check(self, mask: MetaTensor, source: SourceFile, path: str) -> NDArray[Any]:
        """Return the labels on the image's grid."""
        pixels = np.asarray(mask.detach().cpu())
        expected = (1, *source.grid)
        if pixels.shape != expected:
            raise ValueError(f"{path}: {_explain_shape(pixels.shape, expected)}")
        if source.affine is not None:
            # Where a header contradicts itself, MONAI may use another affine than nibabel; the loaded one counts.
            affine = np.asarray(mask.meta.get(MetaKeys.ORIGINAL_AFFINE, source.affine))
            require_place(mask, affine, source.grid, f"{path}: the mask")
        if not (pixels >= 0).all() or (pixels != np.floor(pixels)).any():
            raise ValueError(f"{path}: expected a mask of whole numbers from 0; discretise it first (AsDiscreted)")
        highest = pixels.max(initial=0)
        if highest > _LIMITS["uint16" if self.values else self.dtype]:
            raise ValueError(f"{path}: label {highest:.0f} does not fit {self.dtype}; use dtype 'uint16'")
        return pixels[0].astype(np.uint16)

    def _write(self, source: SourceFile, labels: NDArray[Any], name: str, target: Path) -> list[Path]:
        if self.format == "seg":
            write_segmentation(source.path, labels, target, self.names)
        else:
            source.write(self._encode(labels), target)
        written = [target]
        if self.overlay:
            written.append(self.output_dir / f"{name}_overlay.png")
            source.write_overlay(labels, self.channels, written[-1])
        if self.figure:
            written.append(self.output_dir / f"{name}_figure.png")
            write_picture(draw_gallery([source.take_row(name, labels, self.channels)], width=384), written[-1])
        return written

    def _encode(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return the values of the file."""
        if self.values is None:
            return labels.astype(self.dtype)
        unknown = sorted({int(label) for label in np.unique(labels)} - set(self.values))
        if unknown:
            raise ValueError(f"values must list every label; got predictions of {unknown[:5]}, values {self.values}")
        table = np.zeros(max(self.values) + 1, dtype=self.dtype)
        for label, value in self.values.items():
            table[label] = value
        return table[labels]


def check_name(case_id: str) -> str:
    """Return the id of a case as the beginning of a path below the output folder.

    Raises:
        ValueError: it would leave the folder.
    """
    parts = PurePosixPath(case_id).parts
    if not parts or parts[0].startswith("/") or ".." in parts:
        raise ValueError(f"case_id {case_id!r} is not a path below the output folder")
    return "/".join(parts)


def _read_values(values: Mapping[int | str, int] | Sequence[int], dtype: str) -> dict[int, int]:
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
    table = {0: 0, **{int(label): int(value) for label, value in pairs}}
    if min(table) < 0 or min(table.values()) < 0 or max(table.values()) > _LIMITS[dtype]:
        raise ValueError(f"values must be whole numbers from 0 to {_LIMITS[dtype]} ({dtype}), got {values}")
    return table


def _explain_shape(found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if found[0] != 1 and found[1:] == expected[1:]:
        return f"expected one channel of labels, got {found[0]}; use AsDiscreted with argmax first"
    if found == (1, *expected[:0:-1]):
        return f"the mask is transposed: {found}, expected {expected}; load pictures with reverse_indexing false"
    return f"expected a mask on the image's grid {expected}, got {found}; Invertd brings it back"


class SaveImageMaskd(SaverDictTransform, array=SaveImageMask):
    """Dictionary version of :class:`SaveImageMask`, with the same further arguments.

    Args:
        keys: items that hold masks ``(1, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """

    def apply(self, data: dict[Hashable, Any], key: Hashable) -> None:
        """Write a mask, named after the case's ``case_id``."""
        note_files(data[key], self.transform(data[key], data.get(_CASE))[:1])
