"""Read the properties of image files, from the header alone or from all pixels; one reader per format."""

from __future__ import annotations

import importlib
import io
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.datasets.probes.fingerprints import Fingerprint

# Twice Pillow's own warning level, where Pillow gives up; checked from the header, before anything is decoded.
MAX_PIXELS = 178_956_970
# A volume of 1290 voxels along each axis; the sizes of CT scans reach 512 x 512 x 1500.
MAX_VOXELS = 1 << 31

# Format of each file ending, and the module whose `probe` reads it; the longest matching ending counts.
FORMATS: dict[str, tuple[str, str]] = {
    **dict.fromkeys((".tif", ".tiff"), ("TIFF", "raster")),
    ".png": ("PNG", "raster"),
    **dict.fromkeys((".jpg", ".jpeg"), ("JPEG", "raster")),
    ".bmp": ("BMP", "raster"),
    ".nii": ("NIfTI", "nifti"),
    ".nii.gz": ("NIfTI", "nifti"),
    **dict.fromkeys((".mha", ".mhd"), ("MetaImage", "itk_volume")),
    **dict.fromkeys((".nrrd", ".nhdr"), ("NRRD", "itk_volume")),
    ".dcm": ("DICOM", "dicom"),
}
#: Formats of files that hold a volume with its place
VOLUMES = ("NIfTI", "MetaImage", "NRRD")


class ImageError(Exception):
    """A file that cannot be used as an image; the arguments are those of an `Issue`."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


@dataclass(frozen=True)
class ImageSource:
    """A file to read: from the disk, or from ``data`` if all its bytes are in memory; its methods raise `OSError`."""

    path: Path
    data: bytes | None = None

    def open(self) -> IO[bytes]:
        """Return a stream at the first byte."""
        return self.path.open("rb") if self.data is None else io.BytesIO(self.data)

    def head(self, length: int = 512) -> bytes:
        """Return the first bytes."""
        with self.open() as stream:
            return stream.read(length)

    def size(self) -> int:
        """Return the number of bytes of the file."""
        return os.path.getsize(self.path) if self.data is None else len(self.data)


@dataclass(frozen=True)
class Content:
    """Statistics of an image's pixels."""

    low: float  #: smallest value, not-a-number left out
    high: float  #: largest value
    non_finite: int  #: number of not-a-number and infinite values
    counts: Mapping[float, int]  #: number of pixels by value; only for masks
    #: index of the first value that is not finite, in the array's order; () if all are
    first_non_finite: tuple[int, ...] = ()
    digest: str = ""  #: sha256 of shape and decoded pixels: equal for the same image in another encoding; "" for masks
    fingerprint: Fingerprint | None = None  #: thumbnail by which near copies are recognised; None for masks


@dataclass(frozen=True)
class Probe:
    """Properties of an image file."""

    format: str  #: ``"TIFF"``, ``"PNG"``, ``"NIfTI"``, ``"MetaImage"``, ``"DICOM"``, ...
    shape: tuple[int, ...]  #: size in pixels or voxels: rows first for 2-D images, the order of the file for volumes
    channels: int  #: number of channels, alpha included
    pages: int  #: number of images in the file
    content: Content | None = None  #: statistics of the pixels; None if only the header was read
    dtype: str = ""  #: numpy's name of the stored type; "" if the header does not give it
    spacing: tuple[float, ...] = ()  #: size of a voxel in mm along each axis of ``shape``; () if the file holds none
    affine: tuple[tuple[float, ...], ...] = ()  #: voxel index to world in mm (RAS), 4 x 4; () if the file holds none
    #: properties of this format only, JSON-ready (``{"mode": "RGBA", "exif_orientation": 6}``)
    header: Mapping[str, Any] = field(default_factory=dict)


def probe_image(source: ImageSource | Path, *, decode: bool, is_mask: bool, max_pixels: int | None = None) -> Probe:
    """Read an image's header, or all of it.

    Args:
        source: an existing file.
        decode: read all pixels too.
        is_mask: count the pixels of each value.
        max_pixels: larger images are refused from their header, before anything is decoded; None: see `choose_limit`.

    Raises:
        ImageError: ``unsupported-format``, ``not-a-file``, ``not-an-image``, ``truncated``, ``too-large``.
        OSError: there is no such file.
    """
    source = source if isinstance(source, ImageSource) else ImageSource(source)
    ending = find_ending(source.path.name) or (".dcm" if is_dicom(source) else "")
    if not ending:
        suffix = PurePosixPath(source.path.name).suffix.lower()
        known = ", ".join(sorted(FORMATS))
        raise ImageError("unsupported-format", f"no reader for {suffix or 'a name without ending'!r}; known: {known}")
    if source.data is None and not stat.S_ISREG(os.stat(source.path).st_mode):
        # Reading a pipe would wait for ever.
        raise ImageError("not-a-file", "a folder or a device, not a file", "put the image there")
    name, module = FORMATS[ending]
    reader = importlib.import_module(f"pipeline.datasets.probes.{module}")
    probe: Probe = reader.probe(source, decode, is_mask, choose_limit(name, max_pixels))
    return probe


def choose_limit(format: str, max_pixels: int | None) -> int:
    """Return the greatest number of pixels or voxels of a file: the given one, else that of its format."""
    if max_pixels is not None:
        return max_pixels
    return MAX_VOXELS if format in VOLUMES else MAX_PIXELS


def is_dicom(source: ImageSource) -> bool:
    """Return whether a file has the mark of DICOM, whose names often have no ending; False if it cannot be read."""
    try:
        return source.head(132)[128:] == b"DICM"
    except OSError:
        return False


def find_ending(name: str) -> str:
    """Return the longest known ending of a file's name, "" if none is known.

    Example:
        >>> find_ending("brain.nii.gz"), find_ending("x.TIF"), find_ending("notes.txt")
        ('.nii.gz', '.tif', '')
    """
    lower = name.lower()
    return max((ending for ending in FORMATS if lower.endswith(ending)), key=len, default="")


def expected_format(path: str) -> str:
    """Return the format that belongs to a file's ending, "" if none is known.

    Example:
        >>> expected_format("a/b_1.tif")
        'TIFF'
    """
    ending = find_ending(path)
    return FORMATS[ending][0] if ending else ""
