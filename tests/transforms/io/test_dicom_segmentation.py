"""DICOM SEG: every landmark at its place for all 48 axis orders, oblique, tilted and uneven series, in two readers."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.data import MetaTensor
from monai.transforms import LoadImage

from pipeline.datasets.phantoms.dicom import make_uid
from pipeline.issues import InputError
from pipeline.transforms import SaveImageMask
from pipeline.transforms.io.volume_reader import VolumeReader

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom", reason="the extra dicom is not installed")

SHAPE = (4, 5, 6)  # slices, rows, columns
SIZES = (0.8, 0.7)
# Slice, row and column of the pixels of each label; none is symmetric to another.
LANDMARKS = {1: [(0, 0, 0), (1, 2, 5), (3, 4, 1)], 2: [(1, 3, 0), (2, 0, 3)]}
NAMES = {1: "anterior", 2: "posterior"}


def turn(angles: tuple[float, float, float]) -> np.ndarray:
    """Return directions of columns, rows and slices, turned about three axes."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        one = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        one[first, first] = one[second, second] = np.cos(angle)
        one[first, second], one[second, first] = -np.sin(angle), np.sin(angle)
        result = one @ result
    return result


def write_series(folder: Path, axes: np.ndarray, steps: list[float] | None = None, *, lean: float = 0.0) -> Path:
    """Write slices along ``axes[2]``, also against the normal of their planes; values are 100 times the label."""
    folder.mkdir(parents=True)
    along, down, across = axes
    depths = np.cumsum([0.0, *(steps or [3.0] * (SHAPE[0] - 1))])
    for index, depth in enumerate(depths):
        pixels = np.full(SHAPE[1:], 7, dtype=np.int16)
        for label, places in LANDMARKS.items():
            for slice_, row, column in places:
                if slice_ == index:
                    pixels[row, column] = 100 * label
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        uid = make_uid(str(folder), str(index))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = make_uid(str(folder)), make_uid("study")
        dataset.FrameOfReferenceUID = make_uid("frame")
        dataset.Modality, dataset.PatientID, dataset.SeriesNumber = "MR", "p_7", 3
        dataset.InstanceNumber = index + 1
        place = np.array([11.0, -23.5, 40.25]) + depth * (across + lean * down)
        dataset.ImagePositionPatient = [round(float(value), 9) for value in place]
        dataset.ImageOrientationPatient = [round(float(value), 12) for value in (*along, *down)]
        dataset.PixelSpacing = list(SIZES)
        dataset.SliceThickness = 3
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.PixelData = pixels.tobytes()
        # Names in an order that is not that of the places.
        dataset.save_as(folder / f"{(index * 3) % 4}.dcm", enforce_file_format=True)
    return folder


def list_truth(axes: np.ndarray, steps: list[float] | None, lean: float) -> dict[int, set[tuple[float, ...]]]:
    along, down, across = axes
    depths = np.cumsum([0.0, *(steps or [3.0] * (SHAPE[0] - 1))])
    found: dict[int, set[tuple[float, ...]]] = {}
    for label, places in LANDMARKS.items():
        points = [
            np.array([11.0, -23.5, 40.25])
            + depths[slice_] * (across + lean * down)
            + row * SIZES[0] * down
            + column * SIZES[1] * along
            for slice_, row, column in places
        ]
        found[label] = round_all(points)
    return found


def round_all(points: Any) -> set[tuple[float, ...]]:
    return {tuple(round(float(value), 3) + 0.0 for value in point) for point in points}


def predict(folder: Path, target: Path, **options: Any) -> Path:
    """Load a series as bundles do, and save what is bright."""
    image = LoadImage(reader=VolumeReader(), image_only=True, ensure_channel_first=True)(str(folder))
    mask = MetaTensor((image // 100).clamp(0, 9), meta=image.meta, affine=image.affine)
    (written,) = SaveImageMask(target, format="seg", names={**NAMES}, **options)(mask)
    return written


def read_by_hand(path: Path) -> dict[int, set[tuple[float, ...]]]:
    """Return the places of each segment's pixels, with nothing but the standard's own fields."""
    dataset = pydicom.dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    frames = bits[: dataset.NumberOfFrames * dataset.Rows * dataset.Columns]
    frames = frames.reshape(dataset.NumberOfFrames, dataset.Rows, dataset.Columns)
    row_step, column_step = shared.PixelMeasuresSequence[0].PixelSpacing
    found: dict[int, set[tuple[float, ...]]] = {}
    for pixels, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        along, down = np.array(orientation[:3], dtype=float), np.array(orientation[3:], dtype=float)
        points = [origin + row * row_step * down + column * column_step * along for row, column in np.argwhere(pixels)]
        found.setdefault(int(number), set()).update(round_all(points))
    return {number: points for number, points in found.items() if points}


def read_by_references(path: Path, folder: Path) -> dict[int, set[tuple[float, ...]]]:
    """Return the same from highdicom, by the slices that the frames refer to and the places of those."""
    sources = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    segmentation = highdicom.seg.segread(path)
    pixels = segmentation.get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in sources], assert_missing_frames_are_empty=True
    )
    found: dict[int, set[tuple[float, ...]]] = {}
    for source, frame in zip(sources, pixels, strict=True):
        along, down = np.array(source.ImageOrientationPatient[:3]), np.array(source.ImageOrientationPatient[3:])
        for row, column, segment in np.argwhere(frame):
            point = np.array(source.ImagePositionPatient) + row * SIZES[0] * down + column * SIZES[1] * along
            found.setdefault(int(segment) + 1, set()).update(round_all([point]))
    return found


AXES = {
    f"{order}{signs}": np.eye(3)[list(order)] * np.array(signs)[:, None]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
}
OTHERS: dict[str, tuple[np.ndarray, list[float] | None, float]] = {
    "oblique": (turn((10, 20, 30)), None, 0.0),
    "oblique, against the normal": (turn((-40, 5, 75)) * np.array([[1], [1], [-1]]), None, 0.0),
    "tilted gantry": (turn((20, 0, 0)), None, 0.3),
    "uneven": (np.eye(3), [3.0, 3.4, 2.7], 0.0),
    "oblique, uneven": (turn((5, -25, 60)), [2.8, 3.0, 3.3], 0.0),
}


def test_landmarks_of_all_48_axis_orders(tmp_path: Path) -> None:
    assert len(AXES) == 48
    for number, axes in enumerate(AXES.values()):
        folder = write_series(tmp_path / f"s{number}", axes)
        path = predict(folder, tmp_path / "out")
        truth = list_truth(axes, None, 0.0)
        assert read_by_hand(path) == truth
        assert read_by_references(path, folder) == truth


@pytest.mark.parametrize("kind", OTHERS)
def test_landmarks_of_oblique_tilted_and_uneven_series(kind: str, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", *OTHERS[kind][:2], lean=OTHERS[kind][2])
    path = predict(folder, tmp_path / "out")
    truth = list_truth(*OTHERS[kind])
    assert read_by_hand(path) == truth
    assert read_by_references(path, folder) == truth


def test_the_volume_of_highdicom_lies_where_the_image_lies(tmp_path: Path) -> None:
    axes = OTHERS["oblique"][0]
    path = predict(write_series(tmp_path / "series", axes), tmp_path / "out")
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    found = {
        label: round_all(np.argwhere(volume.array == label) @ volume.affine[:3, :3].T + volume.affine[:3, 3])
        for label in LANDMARKS
    }
    assert found == list_truth(axes, None, 0.0)


def test_names_patient_and_references(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", np.eye(3))
    path = predict(folder, tmp_path / "out")
    assert path.name == "series_pred.dcm"
    dataset = pydicom.dcmread(path)
    assert [(item.SegmentNumber, item.SegmentLabel) for item in dataset.SegmentSequence] == [
        (1, "anterior"),
        (2, "posterior"),
    ]
    assert (dataset.Modality, dataset.PatientID) == ("SEG", "p_7")
    source = pydicom.dcmread(folder / "0.dcm")
    assert dataset.StudyInstanceUID == source.StudyInstanceUID
    assert dataset.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    referenced = {
        item.ReferencedSOPInstanceUID for item in dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referenced == {pydicom.dcmread(file).SOPInstanceUID for file in folder.iterdir()}


def test_an_empty_mask_has_all_segments(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", np.eye(3))
    image = LoadImage(reader=VolumeReader(), image_only=True, ensure_channel_first=True)(str(folder))
    (path,) = SaveImageMask(tmp_path / "out", format="seg", names=NAMES)(MetaTensor(image * 0, meta=image.meta))
    assert read_by_hand(path) == {}
    assert len(pydicom.dcmread(path).SegmentSequence) == 2


def test_without_highdicom_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_series(tmp_path / "series", np.eye(3))
    monkeypatch.setitem(sys.modules, "highdicom", None)
    monkeypatch.setitem(sys.modules, "highdicom.seg", None)
    with pytest.raises(InputError, match=r"; type: pip install 'monai-segmentation-suite\[dicom\]'$"):
        predict(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_picture_has_no_segmentation(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    mask = MetaTensor(np.zeros((1, 4, 6)), meta={"filename_or_obj": str(tmp_path / "a.png")})
    with pytest.raises(InputError, match=r"a\.png is a picture, .* SEG; choose --format png or tiff, or leave"):
        SaveImageMask(tmp_path / "out", format="seg")(mask)
