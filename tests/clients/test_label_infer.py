"""MONAI Label's inference task for bundles, given images of each format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.bundles.conftest import read_json
from tests.clients.copies import digest
from tests.clients.images import FORMATS, VOLUMES, find_kind, read_mask, write_copy
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


@pytest.mark.parametrize("place", range(max(map(len, FORMATS.values()))))
def test_label_map_is_that_of_inference_json(
    task: Any, predicted: Predicted, image: Path, place: int, tmp_path: Path
) -> None:
    formats = FORMATS[find_kind(predicted.bundle)]
    if place >= len(formats):
        pytest.skip("no further format")
    before = digest(predicted.bundle)
    file = write_copy(image, tmp_path / f"case{formats[place]}")
    _, data = infer(task, file, skip_writer=True)
    found = np.asarray(data["pred"]).squeeze()
    np.testing.assert_array_equal(found, predicted.labels)
    assert digest(predicted.bundle) == before, "nothing is written into the bundle"
    assert os.listdir(tmp_path) == [file.name], "nothing is written beside the image"


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
