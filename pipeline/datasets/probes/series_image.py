"""The files of a DICOM series as one ITK image that keeps the tilt of a gantry and the scale of each slice."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.probes.itk_module import load_itk


def list_series(folder: Path) -> list[tuple[str, ...]]:
    """Return the files of each series of a folder, in the order of their places.

    ITK separates series by more than their identifier, for example by date and size, as MONAI's ``ITKReader`` does.
    Segmentations that lie beside the series they were made of are no series of images.
    """
    itk = load_itk()

    names = itk.GDCMSeriesFileNames.New()
    names.SetUseSeriesDetails(True)
    names.AddSeriesRestriction("0008|0021")
    names.SetDirectory(str(folder))
    found = [tuple(names.GetFileNames(series)) for series in names.GetSeriesUIDs()]
    return found if len(found) < 2 else [files for files in found if not _is_segmentation(files[0])]


def _is_segmentation(file: str) -> bool:
    import pydicom

    return bool(pydicom.dcmread(file, specific_tags=["Modality"], stop_before_pixels=True).get("Modality") == "SEG")


def read_series(files: Sequence[str]) -> Any:
    """Read the files of a series, in this order, as one ITK image of float32.

    ``itk.imread`` makes the third axis perpendicular to the slices, which is wrong for a tilted gantry, and stores all
    slices in the type of the first, which cuts off the fractions of others that are scaled differently.

    Returns:
        The image; its third axis leads from the first slice to the last (LPS, mm).
    """
    itk = load_itk()

    header = itk.GDCMImageIO.New()
    header.SetFileName(files[0])
    header.ReadImageInformation()
    pixel_type = itk.F if header.GetNumberOfComponents() == 1 else None
    image = itk.imread(list(files) if len(files) > 1 else files[0], pixel_type=pixel_type)
    if len(files) > 1:
        image.SetDirection(_read_header(files).GetDirection())
    return image


def _read_header(files: Sequence[str]) -> Any:
    """Return an ITK image with place and size alone; `itk.imread` cannot be told to compute the direction."""
    itk = load_itk()

    reader = itk.ImageSeriesReader[itk.Image[itk.F, 3]].New(
        FileNames=list(files), ImageIO=itk.GDCMImageIO.New(), ForceOrthogonalDirection=False
    )
    reader.UpdateOutputInformation()
    return reader.GetOutput()


def read_affine(files: Sequence[str]) -> NDArray[np.float64]:
    """Return the affine of a series from the headers of its files in their order: voxel index to mm (RAS), 4 x 4."""
    return compute_affine(_read_header(files))


def compute_affine(image: Any) -> NDArray[np.float64]:
    """Return the affine of an ITK image with three axes: voxel index to mm (RAS), 4 x 4."""
    itk = load_itk()

    affine = np.eye(4)
    affine[:3, :3] = np.asarray(itk.array_from_matrix(image.GetDirection())) * np.asarray(image.GetSpacing())
    affine[:3, 3] = np.asarray(image.GetOrigin())
    # DICOM and ITK count to the left and posterior, NIfTI to the right and anterior.
    affine[:2] *= -1
    return affine
