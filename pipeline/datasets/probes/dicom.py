"""DICOM files, one slice each, their headers read with pydicom.

pydicom reads headers from memory and fails with an exception where a library in C would end the process. Pixels that
are not compressed are read with it too; for compressed ones ITK (GDCM) brings the decoders.

No name, number or date of a patient leaves this module in a `Probe`: probes are cached and printed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.datasets.probes import Content, ImageError, ImageSource, Probe
from pipeline.datasets.probes.damage import explain_damage
from pipeline.datasets.probes.pixels import summarise_pixels

_TAGS = (
    *("SOPClassUID", "Modality", "PatientID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
    *("InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "PhotometricInterpretation", "PlanarConfiguration", "BitsStored", "HighBit"),
)
_RESTORE = "restore the file"


@dataclass(frozen=True)
class SliceFacts:
    """What tells where a DICOM file belongs.

    Args:
        series: SeriesInstanceUID.
        number: SeriesNumber; None if it is not given.
        patient: PatientID, stripped; it is compared and must not be written down.
        modality: for example ``"MR"``.
        instance: InstanceNumber; None if it is not given.
        position: ImagePositionPatient in mm; () if it is not given.
        orientation: ImageOrientationPatient, the direction cosines of a row and of a column; () if it is not given.
        rows: height in pixels; 0 if the file holds no image.
        columns: width in pixels.
        spacing: distance of rows and of columns in mm; () if it is not given.
    """

    series: str
    number: int | None
    patient: str
    modality: str
    instance: int | None
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    rows: int
    columns: int
    spacing: tuple[float, ...]


def is_dicom(head: bytes) -> bool:
    """Return whether the first 132 bytes of a file are those of DICOM."""
    return head[128:132] == b"DICM"


def read_slice_facts(source: ImageSource) -> SliceFacts:
    """Read the header of a DICOM file.

    Raises:
        ImageError: it cannot be read.
    """
    return _gather_facts(_read(source, pixels=False))


def probe(source: ImageSource, decode: bool, is_mask: bool, max_pixels: int) -> Probe:
    """Read a DICOM file; see `pipeline.datasets.probes.probe_image`.

    ``shape`` is (rows, columns), ``pages`` the number of frames. Values are scaled by RescaleSlope and -Intercept. The
    header holds ``series``, ``instance``, ``position`` and ``orientation`` (mm, LPS, the words of DICOM), ``modality``.

    Raises:
        ImageError: ``truncated``, ``too-large``, ``not-an-image``, ``no-pixels``, ``unsupported-format``.
    """
    dataset = _read(source, pixels=False)
    facts = _gather_facts(dataset)
    frames = _whole(dataset, "NumberOfFrames") or 1
    channels = _whole(dataset, "SamplesPerPixel") or 1
    bits = _whole(dataset, "BitsAllocated") or 0
    if min(facts.rows, facts.columns, frames, channels) < 1 or bits not in (1, 8, 16, 32, 64):
        kind = facts.modality or "unknown"
        message = f"a DICOM file of modality {kind} without an image (reports and plans have none)"
        raise ImageError("no-pixels", message, "leave it out")
    if facts.rows * facts.columns * frames > max_pixels:
        message = f"{facts.rows} x {facts.columns} x {frames} pixels; the limit is {max_pixels} pixels"
        raise ImageError("too-large", message, "scale it down, or raise --max-pixels")
    length = facts.rows * facts.columns * frames * channels * bits // 8
    if not _is_compressed(dataset) and length > source.size():
        message = f"cut off: the header claims {length} bytes of pixels, the file has {source.size()} bytes"
        raise ImageError("truncated", message, _RESTORE)
    kind = "uint" if not _whole(dataset, "PixelRepresentation") else "int"
    return Probe(
        format="DICOM",
        shape=(facts.rows, facts.columns),
        channels=channels,
        pages=frames,
        content=_decode(source, length, is_mask) if decode else None,
        dtype=f"{kind}{max(8, bits)}",
        spacing=facts.spacing,
        header={
            "series": facts.series,
            "instance": facts.instance,
            "position": list(facts.position),
            "orientation": list(facts.orientation),
            "modality": facts.modality,
        },
    )


def _read(source: ImageSource, *, pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError:
        raise ImageError("unsupported-format", "DICOM needs pydicom", "pip install pydicom") from None
    # Writers break the rules of value types all the time; what matters here is checked here.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        if not is_dicom(source.head(132)):
            raise ValueError("no DICM at byte 128")
        with source.open() as stream:
            tags = None if pixels else list(_TAGS)
            dataset = pydicom.dcmread(stream, stop_before_pixels=not pixels, specific_tags=tags)
            # Values are parsed when they are asked for; ask now, so that what is broken breaks here.
            for tag in _TAGS:
                dataset.get(tag)
            return dataset
    except Exception as error:
        # pydicom raises about anything for damaged files.
        if isinstance(error, MemoryError):
            raise
        raise _explain(source, error) from None


def _explain(source: ImageSource, error: Exception) -> ImageError:
    try:
        found = is_dicom(source.head(132))
    except OSError:
        found = False
    # Every DICOM file is one that was one, whatever its first 128 bytes say.
    return explain_damage(source, error, magic=(b"",) if found else ())


def _gather_facts(dataset: Any) -> SliceFacts:
    spacing = _floats(dataset, "PixelSpacing", 2) or _floats(dataset, "ImagerPixelSpacing", 2)
    return SliceFacts(
        series=_text(dataset, "SeriesInstanceUID"),
        number=_whole(dataset, "SeriesNumber"),
        patient=_text(dataset, "PatientID"),
        modality=_text(dataset, "Modality"),
        instance=_whole(dataset, "InstanceNumber"),
        position=_floats(dataset, "ImagePositionPatient", 3),
        orientation=_floats(dataset, "ImageOrientationPatient", 6),
        rows=_whole(dataset, "Rows") or 0,
        columns=_whole(dataset, "Columns") or 0,
        spacing=spacing if all(size > 0 for size in spacing) else (),
    )


def _text(dataset: Any, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip().strip("\0")


def _whole(dataset: Any, name: str) -> int | None:
    try:
        return int(dataset.get(name))
    except (TypeError, ValueError, OverflowError):
        return None


def _floats(dataset: Any, name: str, length: int) -> tuple[float, ...]:
    """Return exactly this many finite numbers, or ()."""
    value = dataset.get(name)
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        return ()
    try:
        numbers = tuple(round(float(item), 6) for item in value)
    except (TypeError, ValueError):
        return ()
    return numbers if len(numbers) == length and all(math.isfinite(number) for number in numbers) else ()


def _is_compressed(dataset: Any) -> bool:
    try:
        return bool(dataset.file_meta.TransferSyntaxUID.is_compressed)
    except (AttributeError, ValueError):
        # Private or absent: no decoder is known either way, so the size is compared.
        return False


def _decode(source: ImageSource, length: int, is_mask: bool) -> Content:
    import numpy as np

    dataset = _read(source, pixels=True)
    compressed = _is_compressed(dataset)
    try:
        if not compressed and len(dataset.PixelData) < length:
            missing = length - len(dataset.PixelData)
            raise ImageError("truncated", f"cut off: {missing} bytes of pixels are missing", _RESTORE)
        array = _inflate(source, dataset) if compressed else _scale(dataset, dataset.pixel_array)
    except Exception as error:
        if isinstance(error, ImageError | MemoryError):
            raise
        raise _explain(source, error) from None
    with np.errstate(all="ignore"):
        return summarise_pixels(array, is_mask)


def _scale(dataset: Any, array: Any) -> Any:
    slope, intercept = (
        float(dataset.get(name, default)) for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    return array if (slope, intercept) == (1, 0) else array * slope + intercept


def _inflate(source: ImageSource, dataset: Any) -> Any:
    """Decode compressed pixels with pydicom where it can (run lengths), else with ITK, which scales them too."""
    from pydicom.pixels.decoders.base import get_decoder

    try:
        available = get_decoder(dataset.file_meta.TransferSyntaxUID).is_available
    except NotImplementedError:
        available = False
    if available:
        return _scale(dataset, dataset.pixel_array)
    import itk

    return itk.array_from_image(itk.imread(str(source.path)))
