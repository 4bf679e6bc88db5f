"""DICOM files are read or refused in one line, and nothing of a patient comes out."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from pipeline.datasets.phantoms.dicom import Geometry, write_series
from pipeline.datasets.probes import ImageError, ImageSource, Probe, probe_image
from pipeline.datasets.probes.dicom import read_slice_facts

GEOMETRY = Geometry((-10.0, 5.0, 30.0), (1.0, 0.0, 0.0, 0.0, 0.8, 0.6), (0.9, 0.7, 2.5))


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(-50, 900, (4, 9, 7)).astype(np.int16)


@pytest.fixture
def file(tmp_path: Path, voxels: np.ndarray) -> Path:
    """The second slice of four."""
    return write_series(tmp_path / "s", voxels, GEOMETRY, "MRN-4711")[1]


def probe(path: Path, *, decode: bool = True, max_pixels: int = 10**8) -> Probe:
    return probe_image(ImageSource(path, path.read_bytes()), decode=decode, is_mask=False, max_pixels=max_pixels)


def refuse(path: Path, code: str, message: str, **options: object) -> None:
    with pytest.raises(ImageError) as caught:
        probe(path, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def change(path: Path, **values: object) -> Path:
    dataset = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def test_header_and_pixels(file: Path, voxels: np.ndarray) -> None:
    head = probe(file, decode=False)
    assert (head.format, head.shape, head.channels, head.pages, head.dtype) == ("DICOM", (9, 7), 1, 1, "int16")
    assert head.spacing == (0.9, 0.7)
    assert head.header["orientation"] == list(GEOMETRY.orientation)
    np.testing.assert_allclose(head.header["position"], [-10, 5 - 0.6 * 2.5, 30 + 0.8 * 2.5], atol=1e-5)
    assert (head.header["modality"], head.header["instance"]) == ("MR", 3)
    content = probe(file).content
    assert content is not None
    assert (content.low, content.high) == (voxels[1].min(), voxels[1].max())


def test_values_are_scaled(file: Path, voxels: np.ndarray) -> None:
    content = probe(change(file, RescaleSlope="2", RescaleIntercept="-1000")).content
    assert content is not None
    assert (content.low, content.high) == (2.0 * voxels[1].min() - 1000, 2.0 * voxels[1].max() - 1000)


def test_compressed_pixels(file: Path, voxels: np.ndarray) -> None:
    dataset = pydicom.dcmread(file)
    dataset.compress(RLELossless)
    dataset.save_as(file)
    content = probe(file).content
    assert content is not None
    assert (content.low, content.high) == (voxels[1].min(), voxels[1].max())


def test_nothing_of_a_patient_is_in_a_probe(file: Path) -> None:
    text = json.dumps(asdict(probe(file)), default=str)
    assert "4711" not in text
    assert "Synthetic" not in text
    assert read_slice_facts(ImageSource(file)).patient == "MRN-4711"


def test_a_file_without_ending_is_known_by_its_first_bytes(file: Path) -> None:
    assert probe(file.rename(file.with_name("IM00017"))).shape == (9, 7)
    other = file.with_name("notes")
    other.write_bytes(b"x" * 300)
    refuse(other, "unsupported-format", "no reader for 'a name without ending'")


def test_other_things_under_its_name(file: Path) -> None:
    for content, message in ((b"<html>", "a web page"), (b"x" * 300, "not an image"), (b"", "not an image")):
        file.write_bytes(content)
        refuse(file, "not-an-image", message)


def test_cut_off(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    refuse(file, "truncated", "20 bytes of pixels are missing")
    # An image that cannot be in the file at all is refused from its header.
    file.write_bytes(whole)
    change(file, Rows=9000)
    refuse(file, "truncated", "the header claims 126000 bytes", decode=False)
    refuse(file, "too-large", "9000 x 7 x 1 pixels; the limit is 1000", max_pixels=1000, decode=False)


def test_reports_have_no_pixels(file: Path) -> None:
    dataset = pydicom.dcmread(file)
    for name in ("Rows", "Columns", "PixelData", "BitsAllocated"):
        delattr(dataset, name)
    dataset.Modality = "SR"
    dataset.save_as(file)
    refuse(file, "no-pixels", "modality SR without an image")


def test_random_bytes_never_escape_as_another_error(file: Path) -> None:
    rng = np.random.default_rng(11)
    whole = file.read_bytes()
    refused = 0
    for _ in range(1500):
        data = bytearray(whole[: len(whole) - int(rng.integers(0, 2)) * int(rng.integers(0, len(whole)))])
        for _ in range(int(rng.integers(1, 6))):
            if data:
                data[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        try:
            found = probe_image(ImageSource(Path("x.dcm"), bytes(data)), decode=True, is_mask=False)
        except ImageError as error:
            refused += 1
            line = str(error)
        else:
            line = ""
            assert min(found.shape) > 0
        assert "\n" not in line
    assert refused > 300


@pytest.mark.realdata
def test_real_slices(shared_data: Path) -> None:
    path = shared_data / "dicom_mr" / "Study3" / "36468-FLAIRreg-58706" / "000000.dcm"
    found = probe(path)
    assert (found.shape, found.spacing, found.dtype) == ((320, 280), (0.6875, 0.6875), "int16")
