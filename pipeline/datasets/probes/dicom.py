"""DICOM files, one slice each, their headers read with pydicom.

pydicom fails with an exception where a library in C would end the process. It reads uncompressed pixels too; ITK (GDCM)
decodes compressed ones.

A `Probe` contains no name, number or date of a patient, because probes are cached and printed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.datasets.probes import Content, ImageError, ImageSource, Probe, is_dicom
from pipeline.datasets.probes.damage import explain_damage
from pipeline.datasets.probes.dicom_series import Slice
from pipeline.datasets.probes.itk_module import READING, load_itk
from pipeline.datasets.probes.pixels import summarise_pixels

_TAGS = (
    *("SOPClassUID", "Modality", "PatientID", "SeriesInstanceUID"),
    *("InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "PhotometricInterpretation", "PlanarConfiguration", "BitsStored", "HighBit"),
    "GantryDetectorTilt",
)
_RESTORE = "restore the file"


@dataclass(frozen=True)
class SliceFacts(Slice):
    """A slice with the patient and the modality; shape () if the file holds no image."""

    patient: str = ""  #: PatientID, stripped; for comparison only, it must not be written anywhere
    modality: str = ""  #: for example ``"MR"``
    inverted: bool = False  #: low values are bright (MONOCHROME1)


def read_slice_facts(source: ImageSource) -> SliceFacts:
    """Read the header of a DICOM file; raise `ImageError` if it cannot be read. A segmentation has no image."""
    facts = _gather_facts(_read(source, pixels=False))
    return replace(facts, shape=()) if facts.modality == "SEG" else facts


def probe(source: ImageSource, decode: bool, is_mask: bool, max_pixels: int) -> Probe:
    """Read a DICOM file; see `pipeline.datasets.probes.probe_image`.

    ``shape`` is (rows, columns), ``pages`` the number of frames. Values are scaled by RescaleSlope and -Intercept. The
    header holds ``series``, ``instance``, ``position`` and ``orientation`` (mm, LPS, as in DICOM), ``modality``,
    ``tilt`` (of the gantry in degrees, None if the file does not say) and ``inverted`` (MONOCHROME1).

    Raises:
        ImageError: ``truncated``, ``too-large``, ``not-an-image``, ``no-pixels``, ``unsupported-format``.
    """
    dataset = _read(source, pixels=False)
    facts = _gather_facts(dataset)
    frames = _whole(dataset, "NumberOfFrames") or 1
    channels = _whole(dataset, "SamplesPerPixel") or 1
    bits = _whole(dataset, "BitsAllocated") or 0
    _check_size(facts, frames, channels, bits, max_pixels)
    length = math.prod(facts.shape) * frames * channels * bits // 8
    if not _is_compressed(dataset) and length > source.size():
        message = f"cut off: the header claims {length} bytes of pixels, the file has {source.size()} bytes"
        raise ImageError("truncated", message, _RESTORE)
    kind = "int" if _whole(dataset, "PixelRepresentation") else "uint"
    header = {name: getattr(facts, name) for name in ("series", "instance", "modality", "tilt", "inverted")}
    return Probe(
        format="DICOM",
        shape=facts.shape,
        channels=channels,
        pages=frames,
        content=_decode(source, length, is_mask) if decode else None,
        dtype=f"{kind}{max(8, bits)}",
        spacing=facts.spacing,
        header=header | {"position": list(facts.position), "orientation": list(facts.orientation)},
    )


def _check_size(facts: SliceFacts, frames: int, channels: int, bits: int, max_pixels: int) -> None:
    if not facts.shape or min(frames, channels) < 1 or bits not in (1, 8, 16, 32, 64):
        kind = facts.modality or "unknown"
        message = f"a DICOM file of modality {kind} without an image (reports and plans have none)"
        raise ImageError("no-pixels", message, "leave it out")
    rows, columns = facts.shape
    if rows * columns * frames > max_pixels:
        message = f"{rows} x {columns} x {frames} pixels; the limit is {max_pixels} pixels"
        raise ImageError("too-large", message, "scale it down")


def _read(source: ImageSource, *, pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError:
        raise ImageError("unsupported-format", "DICOM needs pydicom", "pip install pydicom") from None
    # Many writers violate the rules of value types; the values that matter are checked here.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        if source.head(132)[128:] != b"DICM":
            raise ValueError("no DICM at byte 128")
        with source.open() as stream:
            tags = None if pixels else list(_TAGS)
            dataset = pydicom.dcmread(stream, stop_before_pixels=not pixels, specific_tags=tags)
            # pydicom parses values on access; access them now, so that broken ones raise here.
            for tag in _TAGS:
                dataset.get(tag)
            return dataset
    except MemoryError:
        raise
    except Exception as error:
        # pydicom raises exceptions of many types for damaged files.
        raise _explain(source, error) from None


def _explain(source: ImageSource, error: Exception) -> ImageError:
    # The first 128 bytes of a DICOM file are free, so any of them may start a damaged one.
    return explain_damage(source, error, magic=(b"",) if is_dicom(source) else ())


def _gather_facts(dataset: Any) -> SliceFacts:
    spacing = _floats(dataset, "PixelSpacing", 2) or _floats(dataset, "ImagerPixelSpacing", 2)
    shape = (_whole(dataset, "Rows") or 0, _whole(dataset, "Columns") or 0)
    return SliceFacts(
        series=_text(dataset, "SeriesInstanceUID"),
        patient=_text(dataset, "PatientID"),
        modality=_text(dataset, "Modality"),
        instance=_whole(dataset, "InstanceNumber"),
        position=_floats(dataset, "ImagePositionPatient", 3),
        orientation=_floats(dataset, "ImageOrientationPatient", 6),
        shape=shape if min(shape) > 0 else (),
        spacing=spacing if all(size > 0 for size in spacing) else (),
        tilt=_float(dataset, "GantryDetectorTilt"),
        inverted=_text(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1",
    )


def _text(dataset: Any, name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip().strip("\0")


def _whole(dataset: Any, name: str) -> int | None:
    try:
        return int(dataset.get(name))
    except (TypeError, ValueError, OverflowError):
        return None


def _float(dataset: Any, name: str) -> float | None:
    try:
        value = float(dataset.get(name))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


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
        # Private or absent: no decoder is known, so the size is compared.
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
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise _explain(source, error) from None
    with np.errstate(all="ignore"):
        return summarise_pixels(array, is_mask)


def _scale(dataset: Any, array: Any) -> Any:
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
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
    itk = load_itk()
    with READING:
        return itk.array_from_image(itk.imread(str(source.path)))
