"""MONAI's readers of volumes; a DICOM series keeps the tilt of the gantry and the scale of each slice."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.data import ITKReader, NibabelReader
from monai.data.image_reader import ImageReader

from pipeline.datasets.probes import ImageError, expected_format
from pipeline.datasets.probes.itk_volume import read_volume
from pipeline.datasets.probes.series_image import list_series, read_series

PathLike = str | os.PathLike[str]


class VolumeReader(ImageReader):
    """Read NIfTI, MetaImage and NRRD files and folders of DICOM series, for ``LoadImage`` and ``LoadImaged``.

    MONAI's ``ITKReader`` takes the third axis of a series as perpendicular to the slices: with a gantry tilted by 20
    degrees and 40 slices of 3 mm, the last slice lies 40 mm away from its place. It also stores all slices in the type
    of the first, so that differently scaled ones lose their fractions or overflow. Here the affine is sheared
    (``Spacingd`` removes the shear, ``Invertd`` restores it), and the values are float32.

    NIfTI files are read by MONAI's ``NibabelReader``, other files by ``ITKReader``, as they are without a reader; but
    MetaImage files with damaged voxels, of which ITK makes an image of something else, are refused, and whole numbers
    of 8 and 64 bits, of which ITK in Python has no image, are converted::

        {"_target_": "LoadImaged", "keys": "image", "reader": "pipeline.transforms.io.volume_reader.VolumeReader"}

    Example:
        >>> VolumeReader().verify_suffix("brain.nii.gz")
        True
    """

    def __init__(self) -> None:
        self._nifti, self._others = NibabelReader(), ITKReader()

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Return True: other files are left to ITK, which reports what it cannot read."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Read one file or folder, or several of equal size as channels.

        Returns:
            Image of nibabel or ITK; a list of them for several paths. Or a ValueError, which `get_data` raises: after
            an error here MONAI's ``LoadImage`` would try its other readers, which take what is refused.
        """
        paths = [Path(path) for path in ([data] if isinstance(data, str | os.PathLike) else data)]
        if all(path.is_dir() for path in paths):
            images = [_read_folder(path) for path in paths]
        elif all(expected_format(path.name) in ("MetaImage", "NRRD") for path in paths):
            images = [_read_file(path) for path in paths]
        else:
            reader = self._nifti if self._nifti.verify_suffix(paths) else self._others
            return reader.read(paths, **kwargs)
        refused = [image for image in images if isinstance(image, ValueError)]
        return refused[0] if refused else images if len(images) > 1 else images[0]

    def get_data(self, img: Any) -> tuple[Any, dict[str, Any]]:
        """Return the voxels and the meta data of what `read` returned.

        Raises:
            ValueError: a folder does not hold exactly one series, or a MetaImage or NRRD file is damaged.
        """
        import nibabel as nib

        if isinstance(img, ValueError):
            raise img
        first = img[0] if isinstance(img, list | tuple) else img
        reader = self._nifti if isinstance(first, nib.spatialimages.SpatialImage) else self._others
        voxels, meta = reader.get_data(img)
        return voxels, meta


def _read_folder(folder: Path) -> Any:
    series = list_series(folder)
    if len(series) != 1:
        return ValueError(f"{folder} holds {len(series)} DICOM series, expected one")
    return read_series(series[0])


def _read_file(path: Path) -> Any:
    try:
        return read_volume(path)
    except ImageError as error:
        return ValueError(f"{path}: {error}" + (f"; {error.hint}" if error.hint else ""))
