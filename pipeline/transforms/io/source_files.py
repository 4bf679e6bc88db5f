"""The file that an image was loaded from: its grid, and masks written and shown on that grid."""

import gzip
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from monai.utils import MetaKeys
from numpy.typing import NDArray
from PIL import Image

from pipeline.atomic import write_atomically
from pipeline.datasets.probes import ImageError
from pipeline.datasets.probes.itk_volume import place_like, read_header_affine, read_place
from pipeline.datasets.probes.nifti_affine import measure_distance
from pipeline.datasets.probes.orientation import read_orientation, turn_to_stored
from pipeline.datasets.probes.series_image import list_series, read_affine
from pipeline.issues import InputError
from pipeline.pictures.figures import draw_labels
from pipeline.pictures.gallery import GalleryRow
from pipeline.pictures.image_file import read_pixels, to_uint8, write_picture
from pipeline.pictures.planes import cut_largest, draw_planes
from pipeline.transforms.io.mask_formats import PICTURES
from pipeline.transforms.io.volume_reader import VolumeReader

_NIFTI = (".nii.gz", ".nii")
# Masks of files with a separate data file are one file, which is complete or not there.
_ITK = {".mha": ".mha", ".mhd": ".mha", ".nrrd": ".nrrd", ".nhdr": ".nrrd"}
_RGB = 3
_AXES = 3
# Header fields that place a volume; the others describe the image or the patient.
_PLACE = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "xyzt_units"),
)
_SCANNER = 1  # NIfTI's code for the coordinates of the scanner
_SAME_PLACE = 1e-3  # mm
# Largest distance between a mask and its image, as a share of the smallest voxel size.
_ROUNDING = 0.01
# The same between a series and its files, whose positions are rounded.
_OFF_PLACE = 0.5


class SourceFile(ABC):
    """The file that an image was loaded from.

    Args:
        path: the file or folder.
        stem: its name without suffix.
        suffix: suffix of the mask's file.
        grid: size of the image along its spatial axes, in the order of a loaded image.
        affine: maps voxel indices to mm (RAS); None for pictures.
    """

    def __init__(
        self, path: Path, stem: str, suffix: str, grid: Iterable[int], affine: NDArray[Any] | None = None
    ) -> None:
        self.path, self.stem, self.suffix = path, stem, suffix
        self.grid = tuple(int(size) for size in grid)
        self.affine = affine

    @abstractmethod
    def write(self, labels: NDArray[Any], target: Path) -> None:
        """Write a mask on the image's grid, atomically."""

    def write_overlay(self, labels: NDArray[Any], channels: Sequence[int] | None, target: Path) -> None:
        """Write the image with the outline of every label as PNG, atomically."""
        write_picture(self.draw(labels, channels), target)

    @abstractmethod
    def draw(self, labels: NDArray[Any], channels: Sequence[int] | None) -> NDArray[np.uint8]:
        """Return the image with the outline of every label."""

    @abstractmethod
    def take_row(self, name: str, labels: NDArray[Any], channels: Sequence[int] | None) -> GalleryRow:
        """Return image and prediction for a figure."""


def open_source(path: str | Path, meta: Mapping[Any, Any]) -> SourceFile:
    """Return the file of an image.

    Args:
        path: a picture, a NIfTI, MetaImage or NRRD file, or the folder of a DICOM series.
        meta: meta data of the loaded image; they place a series.

    Raises:
        ValueError: it is none of these.
    """
    path = Path(path)
    if path.is_dir():
        return SeriesFolder(path, meta)
    if path.name.lower().endswith(_NIFTI):
        return NiftiFile(path)
    if path.suffix.lower() in _ITK:
        return ItkFile(path)
    if path.suffix.lower() in PICTURES:
        return PictureFile(path)
    known = ", ".join((*PICTURES, *_NIFTI, *_ITK))
    raise ValueError(f"no mask can be written for {path}: expected {known}, or the folder of a DICOM series")


def require_place(item: torch.Tensor, affine: NDArray[Any], grid: tuple[int, ...], name: str) -> None:
    """Check that a volume lies where its image lies, for example that no axis was flipped.

    Args:
        item: the volume; without meta data it passes.
        affine: of the image.
        grid: size of the image.
        name: the volume's name in the message.

    Raises:
        ValueError: a corner is off by more than 1 % of the smallest voxel size.
    """
    if not isinstance(item, MetaTensor):
        return
    distance = measure_distance(np.asarray(item.affine.cpu()), affine, grid)
    if not distance <= _ROUNDING * float(np.linalg.norm(affine[:_AXES, :_AXES], axis=0).min()):
        raise ValueError(f"{name} lies up to {distance:.3g} mm away from the image; Invertd brings it back")


class PictureFile(SourceFile):
    """A picture; its mask has the same format, or PNG if that format would change values.

    A photograph may have an EXIF orientation, by which viewers turn it. Its mask gets the same one on the same stored
    pixels, so that both agree in programs that apply it and in those that do not. Pillow, which read the picture, has
    applied that of a TIFF file to the pixels, and only that.
    """

    def __init__(self, path: Path) -> None:
        self._pixels = read_pixels(path)
        with Image.open(path) as image:
            self.orientation = read_orientation(image)
        super().__init__(path, path.stem, PICTURES[path.suffix.lower()], self._pixels.shape[:2])

    def write(self, labels: NDArray[Any], target: Path) -> None:
        """Write the mask ``(H, W)``; a TIFF file may hold 32-bit numbers with fractions."""
        is_turned = self.suffix != ".png"
        if target.suffix == ".png":
            write_picture(labels, target, "PNG", 1 if is_turned else self.orientation)
        else:
            stored = turn_to_stored(labels, self.orientation) if is_turned else labels
            write_picture(np.ascontiguousarray(stored), target, "TIFF", self.orientation)

    def write_overlay(self, labels: NDArray[Any], channels: Sequence[int] | None, target: Path) -> None:
        """Write the picture with the outline of every label, which viewers turn as they turn the picture."""
        write_picture(self.draw(labels, channels), target, "PNG", self.orientation if self.suffix == ".png" else 1)

    def draw(self, labels: NDArray[Any], channels: Sequence[int] | None) -> NDArray[np.uint8]:
        """Return the picture with the outline of every label."""
        return draw_labels(self._show(channels), labels)

    def take_row(self, name: str, labels: NDArray[Any], channels: Sequence[int] | None) -> GalleryRow:
        """Return picture and prediction."""
        return GalleryRow(name, self._show(channels), labels)

    def _show(self, channels: Sequence[int] | None) -> NDArray[np.uint8]:
        number = self._pixels.shape[-1]
        chosen = list(channels) if channels else list(range(_RGB)) if number >= _RGB else [0]
        chosen = chosen * _RGB if len(chosen) == 1 else chosen
        return to_uint8(self._pixels[..., [min(channel, number - 1) for channel in chosen]])


class _Volume(SourceFile):
    """A volume; by default its mask is NIfTI."""

    affine: NDArray[Any]

    def __init__(
        self, path: Path, stem: str, grid: Iterable[int], affine: NDArray[Any], suffix: str = ".nii.gz"
    ) -> None:
        super().__init__(path, stem, suffix, grid, np.asarray(affine, dtype=np.float64))

    def draw(self, labels: NDArray[Any], channels: Sequence[int] | None) -> NDArray[np.uint8]:
        """Return the three planes through the centre of the mask."""
        return draw_planes(self._show(channels), labels, self.affine)

    def take_row(self, name: str, labels: NDArray[Any], channels: Sequence[int] | None) -> GalleryRow:
        """Return the axial plane with the largest prediction."""
        plane = cut_largest(self._show(channels), labels, self.affine)
        return GalleryRow(name, np.repeat(plane.image[..., None], _RGB, axis=-1), plane.labels)

    def _show(self, channels: Sequence[int] | None) -> NDArray[Any]:
        voxels: NDArray[Any] = np.asarray(LoadImage(reader=VolumeReader, image_only=True)(str(self.path)))
        return voxels if voxels.ndim == _AXES else voxels[..., channels[0] if channels else 0]

    def write_nifti(self, labels: NDArray[Any], target: Path) -> None:
        """Write the mask ``(X, Y, Z)`` as NIfTI, with the image's affine as sform and qform."""
        import nibabel as nib

        mask = nib.Nifti1Image(labels, self.affine)
        mask.header.set_xyzt_units("mm")
        mask.set_sform(self.affine, _SCANNER)
        mask.set_qform(self.affine, _SCANNER)
        # A qform cannot hold shear.
        if np.abs(mask.get_qform() - self.affine).max() > _SAME_PLACE:
            mask.set_qform(None, 0)
        self._write(mask, target)

    def _write(self, image: Any, target: Path) -> None:
        # nibabel's own gzip stores the time, so equal masks would differ, and it does not write atomically.
        with write_atomically(target, "wb", sync=False) as stream:
            stream.write(gzip.compress(image.to_bytes(), mtime=0))


class NiftiFile(_Volume):
    """A NIfTI file; its mask has the same place: sform, qform, their codes, voxel sizes and units."""

    def __init__(self, path: Path) -> None:
        import nibabel as nib

        image: Any = nib.load(path)
        ending = next(end for end in _NIFTI if path.name.lower().endswith(end))
        super().__init__(path, path.name[: -len(ending)], image.shape[:_AXES], image.affine)
        self._header, self._kind = image.header, type(image)

    def write(self, labels: NDArray[Any], target: Path) -> None:
        """Write the mask ``(X, Y, Z)``."""
        mask = self._kind(labels, self.affine)
        for name in _PLACE:
            mask.header[name] = self._header[name]
        mask.header["pixdim"][: _AXES + 1] = self._header["pixdim"][: _AXES + 1]
        self._write(mask, target)


class ItkFile(_Volume):
    """A MetaImage or NRRD file; its mask has the same format and exactly its origin, voxel sizes and directions."""

    def __init__(self, path: Path) -> None:
        try:
            grid, self._header = read_place(path)
        except ImageError as error:
            raise InputError(f"{path}: {error}") from None
        super().__init__(path, path.stem, grid, read_header_affine(self._header), _ITK[path.suffix.lower()])

    def write(self, labels: NDArray[Any], target: Path) -> None:
        """Write the mask ``(X, Y, Z)``, or a map of numbers with fractions."""
        if target.name.endswith(_NIFTI):
            self.write_nifti(labels, target)
            return
        import itk

        image = itk.image_from_array(np.ascontiguousarray(labels.T))
        place_like(image, self._header)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"mask{self.suffix}"
            try:
                itk.imwrite(image, str(file), compression=True)
            except RuntimeError as error:
                raise OSError(f"ITK cannot write to {folder}: {str(error).splitlines()[-1]}") from None
            with write_atomically(target, "wb", sync=False) as stream:
                stream.write(file.read_bytes())


class SeriesFolder(_Volume):
    """The folder of a DICOM series; its mask is NIfTI, at the place where MONAI's reader put the image."""

    def __init__(self, path: Path, meta: Mapping[Any, Any]) -> None:
        keys = (MetaKeys.SPATIAL_SHAPE, MetaKeys.ORIGINAL_AFFINE)
        if any(key not in meta for key in keys):
            raise ValueError(f"{path}: the mask's meta data lack {' or '.join(keys)}; load the image with LoadImaged")
        grid, affine = (np.asarray(meta[key]) for key in keys)
        super().__init__(path, path.name, grid[:_AXES], affine)
        self._require_tilt()

    def _require_tilt(self) -> None:
        """Refuse an image that was loaded as if its slices were perpendicular to their way, where they are not."""
        series = list_series(self.path)
        if not series:
            return
        distance = measure_distance(read_affine(series[0]), self.affine, self.grid)
        if distance > _OFF_PLACE * float(np.linalg.norm(self.affine[:_AXES, :_AXES], axis=0).min()):
            reader = f"{VolumeReader.__module__}.{VolumeReader.__name__}"
            raise InputError(
                f"{self.path}: the series is tilted, but was loaded as if it were not, up to {distance:.3g} mm from its"
                f' place; give LoadImaged the "reader": "{reader}"'
            )

    def write(self, labels: NDArray[Any], target: Path) -> None:
        """Write the mask ``(X, Y, Z)``."""
        self.write_nifti(labels, target)
