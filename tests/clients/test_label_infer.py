"""MONAI Label's inference task for bundles, given images of each format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.bundles.conftest import read_json
from tests.clients.copies import digest
from tests.clients.images import FORMATS, VOLUMES, find_kind, read_mask, write_copy, write_series_and_volume
from tests.clients.predictions import Predicted
from tests.clients.stand_ins import import_label


@pytest.fixture(scope="module")
def task(predicted: Predicted) -> Any:
    return import_label().BundleInferTask(str(predicted.bundle), {})


def infer(task: Any, image: Path, **options: Any) -> Any:
    """Ask as a viewer does."""
    return task({"image": str(image), "device": "cpu", "model": "bundle", "result_dtype": "uint16", **options})


def test_labels_are_those_of_the_metadata(task: Any, whole: Path) -> None:
    assert task.is_valid()
    info = task.info()
    names = read_json(whole / "configs/metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert info["labels"] == {text.lower(): int(number) for number, text in names.items() if text != "background"}
    assert info["type"] == "segmentation"
    assert info["dimension"] == len(
        read_json(whole / "configs/metadata.json")["network_data_format"]["inputs"]["image"]["spatial_shape"]
    )


def test_label_map_is_that_of_inference_json(task: Any, predicted: Predicted, image: Path, tmp_path: Path) -> None:
    before = digest(predicted.bundle)
    kind = find_kind(predicted.bundle)
    for suffix in FORMATS[kind]:
        file = write_copy(image, tmp_path / f"case{suffix}")
        np.testing.assert_array_equal(infer_labels(task, file), predicted.labels, err_msg=suffix)
    assert {path.name for path in tmp_path.iterdir()} == {f"case{suffix}" for suffix in FORMATS[kind]}
    if kind == VOLUMES:
        series, volume = write_series_and_volume(image, tmp_path)
        # Both keep their place in numbers of different width, so the resampled voxels differ in the last digits.
        assert (infer_labels(task, series) != infer_labels(task, volume)).mean() < 0.01, "DICOM"
    assert digest(predicted.bundle) == before, "nothing is written into the bundle"


def infer_labels(task: Any, image: Path) -> np.ndarray:
    _, data = infer(task, image, skip_writer=True)
    return np.asarray(data["pred"]).squeeze()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_result_file_lies_on_the_image(task: Any, predicted: Predicted, image: Path, suffix: str) -> None:
    result, _ = infer(task, image, result_extension=suffix)
    written = Path(result)
    try:
        np.testing.assert_array_equal(read_mask(written).squeeze(), predicted.labels)
        if find_kind(predicted.bundle) == VOLUMES and suffix == ".nii.gz":
            np.testing.assert_allclose(nibabel.load(written).affine, nibabel.load(image).affine, atol=1e-4)
    finally:
        written.unlink()
