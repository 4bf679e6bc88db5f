"""A few small synthetic DICOM series: oblique crops around a hippocampus, with invented patients."""

import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_atomically
from pipeline.datasets.phantoms.hippocampus import draw_hippocampus
from pipeline.datasets.phantoms.phantom_files import finish_phantom, read_phantom, start_phantom

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
# Root of identifiers that are derived from a UUID or hash (DICOM PS3.5 B.2).
_UID_ROOT = "2.25."


@dataclass(frozen=True)
class Geometry:
    """Position of a series in the patient, in mm."""

    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)  #: centre of the first pixel of the first slice (LPS)
    orientation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  #: direction cosines of a row and of a column
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)  #: distance of rows, of columns and of slices

    def place(self, index: int) -> tuple[float, ...]:
        """Return the position of a slice."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return tuple(round(float(v), 6) for v in np.asarray(self.origin) + index * self.spacing[2] * normal)


def write_dicom_phantom(root: str | Path, *, cases: int = 3, seed: int = 0, size: int = 48) -> Path:
    """Write synthetic MR series, their manifest and the truth.

    Every second series is of the same patient as the one before. Planes are oblique, slices 1.5 to 3 mm apart, and
    numbered from the last position to the first. There are no labels.

    Args:
        root: folder to write to; gets ``series/<study>/<series>/*.dcm``, ``manifest.json`` (all cases
            ``"test"``) and ``truth.json``.
        cases: number of series, 1 to 999.
        seed: random seed, not negative.
        size: typical number of rows, 24 to 256; a slice has about three quarters as many columns.
    """
    source = start_phantom(root, "series", cases=(cases, 1, 999), size=(size, 24, 256), seed=seed)
    truth = {}
    for index in range(cases):
        rng = np.random.default_rng([seed, index, 5])
        image, _ = draw_hippocampus(rng, size)
        voxels = np.asarray(image / image.max() * 1000, dtype=np.int16)
        geometry = _draw_geometry(rng)
        name = f"study_{index // 2 + 1}/series_{index + 1}"
        write_series(source / name, voxels.transpose(2, 1, 0), geometry, f"PHANTOM-{index // 2 + 1}", str(seed))
        columns, rows, slices = voxels.shape
        place = {"spacing": list(geometry.spacing), "origin": list(geometry.origin)}
        truth[name] = {"shape": [rows, columns, slices], **place}
    return finish_phantom(source, read_phantom("dicom", source), seed=seed, size=size, series=truth)


def _draw_geometry(rng: np.random.Generator) -> Geometry:
    angle = float(rng.uniform(-0.3, 0.3))
    orientation = (1.0, 0.0, 0.0, 0.0, round(float(np.cos(angle)), 6), round(float(np.sin(angle)), 6))
    origin = tuple(round(float(value), 3) for value in rng.uniform(-80, 80, 3))
    step = round(float(rng.uniform(1.5, 3)), 2)
    return Geometry(origin, orientation, (0.875, 0.75, step))  # type: ignore[arg-type]


def write_series(
    folder: Path, slices: NDArray[np.int16], geometry: Geometry, patient: str, salt: str = "", *, first: int = 1
) -> list[Path]:
    """Write a series, one file per slice.

    Args:
        folder: is created; the identifiers depend on its name, ``patient`` and ``salt``.
        slices: voxels (slices, rows, columns), int16.
        geometry: position of the slices.
        patient: PatientID, also part of the name.
        salt: text that distinguishes the identifiers of other phantoms.
        first: instance number of the first slice.

    Returns:
        The files in the order of their positions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = make_uid("series", folder.name, patient, salt)
    files = []
    for index, pixels in enumerate(slices):
        # Scanners may number slices against their position.
        number = first + len(slices) - 1 - index
        dataset = _make_dataset(pixels, geometry, index)
        _identify(dataset, series, patient, salt, number)
        path = folder / f"{number:06d}.dcm"
        with write_atomically(path, "wb", sync=False) as stream:
            dataset.save_as(stream, enforce_file_format=True)
        files.append(path)
    return files


def make_uid(*parts: str) -> Any:
    """Return a valid DICOM identifier that depends on the parts only."""
    from pydicom.uid import UID

    digest = hashlib.sha256("/".join(parts).encode()).digest()[:16]
    return UID(f"{_UID_ROOT}{int.from_bytes(digest, 'big')}")


def _identify(dataset: Any, series: str, patient: str, salt: str, number: int) -> None:
    dataset.SOPClassUID = MR_IMAGE_STORAGE
    dataset.SOPInstanceUID = make_uid(series, str(number))
    dataset.StudyInstanceUID = make_uid("study", patient, salt)
    dataset.SeriesInstanceUID = series
    dataset.FrameOfReferenceUID = make_uid("frame", series)
    dataset.Modality = "MR"
    dataset.PatientID = patient
    dataset.PatientName = f"{patient}^Synthetic"
    dataset.StudyDate = dataset.SeriesDate = f"{datetime.date(2000, 1, 1):%Y%m%d}"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = number


def _make_dataset(pixels: NDArray[np.int16], geometry: Geometry, index: int) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID(MR_IMAGE_STORAGE)
    dataset.file_meta.MediaStorageSOPInstanceUID = make_uid("file", str(geometry), str(index))
    dataset.ImagePositionPatient = list(geometry.place(index))
    dataset.ImageOrientationPatient = list(geometry.orientation)
    dataset.PixelSpacing = list(geometry.spacing[:2])
    dataset.SliceThickness = dataset.SpacingBetweenSlices = geometry.spacing[2]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.PixelData = np.ascontiguousarray(pixels, dtype="<i2").tobytes()
    return dataset
