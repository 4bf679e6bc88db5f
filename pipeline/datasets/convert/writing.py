"""Files of a converted dataset: the original bytes where possible, else NIfTI or PNG with the same values."""

import gzip
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets.convert import Link
from pipeline.datasets.convert.reading import Volume
from pipeline.issues import InputError

# Level 1 is five times faster than 9, and at most a tenth larger on real volumes.
_GZIP_LEVEL = 1
_UNKNOWN_UNITS, _MILLIMETRES = 0, 2


def place_file(source: Path, target: Path, link: Link) -> None:
    """Copy the file, or make a symbolic link to its absolute path, or a hard link.

    Raises:
        InputError: the disk does not support such links.
    """
    if link == "copy":
        shutil.copyfile(source, target)
        return
    try:
        if link == "symlink":
            os.symlink(os.path.abspath(source), target)
        else:
            os.link(source, target)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot link {source} to {target.parent}: {reason}; --link copy always works") from None


def compress_file(source: Path, target: Path) -> None:
    """Compress a NIfTI file to ``.nii.gz``, with the same bytes every time."""
    with source.open("rb") as stream, target.open("wb") as raw, _open_gzip(raw) as packed:
        shutil.copyfileobj(stream, packed, 1 << 20)


def _open_gzip(raw: Any) -> gzip.GzipFile:
    # Without time and name, equal volumes give equal files.
    return gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=raw, mtime=0)


def write_nifti(volume: Volume, target: Path, *, known_spacing: bool = True) -> None:
    """Write a volume ``(*spatial)`` or ``(*spatial, C)`` as ``.nii.gz``, with its header if it has one.

    Without ``known_spacing`` the file states that the unit of the affine is unknown; else it is mm.
    """
    header = None if volume.header is None else volume.header.copy()
    if header is not None:
        header.set_data_dtype(volume.array.dtype)
        # The values are already scaled.
        header.set_slope_inter(1, 0)
    image = nibabel.Nifti1Image(volume.array, volume.affine, header)
    if header is None:
        # ITK uses the qform, other programs the sform.
        image.set_qform(volume.affine, code=1)
        image.set_sform(volume.affine, code=1)
        image.header["xyzt_units"] = _MILLIMETRES if known_spacing else _UNKNOWN_UNITS
    with target.open("wb") as raw, _open_gzip(raw) as packed:
        packed.write(image.to_bytes())


def write_picture(array: NDArray[Any], target: Path) -> None:
    """Write (H, W) or (H, W, C) as PNG or TIFF, depending on the name's ending.

    Raises:
        InputError: PNG cannot hold the type.
    """
    if target.suffix == ".png" and array.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{target.name}: PNG cannot hold {array.dtype} pixels")
    Image.fromarray(np.ascontiguousarray(array)).save(target)


def fit_labels(labels: NDArray[np.int32]) -> NDArray[Any]:
    """Return label ids in the smallest type that holds them, unsigned unless one is negative."""
    low, high = labels.min(initial=0), labels.max(initial=0)
    return labels.astype(np.result_type(np.min_scalar_type(low), np.min_scalar_type(high)))
