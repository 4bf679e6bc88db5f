"""A mask of a DICOM series as a DICOM segmentation (SEG), which viewers and archives show on the series."""

import importlib.metadata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_atomically
from pipeline.datasets.probes.series_image import list_series
from pipeline.issues import InputError
from pipeline.pictures.figures import PALETTE

_PACKAGE = "monai-segmentation-suite"
#: What to type where highdicom is missing
INSTALL = f"pip install '{_PACKAGE}[dicom]'"
_LONGEST = 64  # characters of a name in DICOM


def require_highdicom() -> Any:
    """Import highdicom.

    Raises:
        InputError: it is not installed.
    """
    try:
        import highdicom.seg
    except ImportError:
        raise InputError(f"DICOM SEG needs highdicom, which is not installed; type: {INSTALL}") from None
    return highdicom


def write_segmentation(
    folder: Path, labels: NDArray[Any], target: Path, names: Mapping[int, str] | None = None
) -> None:
    """Write a mask as a binary DICOM segmentation with one segment per label, atomically.

    Each frame has the place of the slice that it was made of and refers to it, so it is exact whatever the direction of
    the series, the tilt of its gantry and the distances of its slices. Patient and study are those of the series. Empty
    frames are left out, as is usual.

    Args:
        folder: of the series that the image was loaded from.
        labels: ``(X, Y, Z)`` on its grid, slices in the order of `list_series`; 0 is background.
        target: the file.
        names: name of each label; others are called ``label 3``.

    Raises:
        InputError: highdicom is missing, or the series lacks what a segmentation needs.
    """
    highdicom = require_highdicom()
    images = _read_headers(folder, labels.shape)
    numbers = sorted({*(names or {}), *np.unique(labels).tolist()} - {0}) or [1]
    # A frame per slice, rows first; a channel per segment, because labels need not be 1, 2, 3.
    frames = np.stack([number == labels.T for number in numbers], axis=-1).astype(np.uint8)
    segments = [
        _describe_segment(highdicom, position, (names or {}).get(number, f"label {number}"))
        for position, number in enumerate(numbers, start=1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an empty mask, and of names that DICOM does not recommend
        try:
            dataset = _build(highdicom, images, frames, segments)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            hint = "write NIfTI instead: --format nifti"
            raise InputError(f"{folder}: the series cannot have a DICOM segmentation: {reason}; {hint}") from error
    with write_atomically(target, "wb", sync=False) as stream:
        dataset.save_as(stream, enforce_file_format=True)


def _read_headers(folder: Path, grid: Sequence[int]) -> list[Any]:
    """Return the headers of the slices, in the order in which MONAI has read them."""
    import pydicom

    (files,) = list_series(folder)
    images = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    if len(images) not in (grid[-1], 1):
        raise InputError(f"{folder} holds {len(images)} slices, but the mask {grid[-1]}; predict it again")
    for image in images:
        # A segmentation must have these; anonymised series may lack them. Empty means unknown.
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber"):
            if name not in image:
                setattr(image, name, "")
        for name in ("StudyDate", "StudyTime", "ReferringPhysicianName"):
            if name not in image:
                setattr(image, name, None)
    return images


def _describe_segment(highdicom: Any, number: int, name: str) -> Any:
    from pydicom.sr.codedict import codes

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:_LONGEST],
        # What the labels are is known by their names only.
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=_PACKAGE, family=codes.DCM.ArtificialIntelligence, version=_find_version()
        ),
        display_color=highdicom.color.CIELabColor.from_rgb(*PALETTE[(number - 1) % len(PALETTE)]),
    )


def _build(highdicom: Any, images: list[Any], frames: NDArray[np.uint8], segments: list[Any]) -> Any:
    return highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=frames,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=int(images[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=_PACKAGE,
        manufacturer_model_name=_PACKAGE,
        software_versions=_find_version(),
        device_serial_number="0",
        content_label="PREDICTION",
        content_description="Research only, not for diagnosis",
        series_description="Predicted segmentation",
    )


def _find_version() -> str:
    try:
        return importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
