"""A tiny dataset in the LGG layout, to be broken on purpose."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Manifest

PATIENTS = ("TCGA_CS_0001_20000101", "TCGA_DU_0002_20000102", "TCGA_HT_0003_20000103")
# Rows and columns differ, so that swapped axes show.
ROWS, COLUMNS = 24, 32


def write_patient(root: Path, patient: str, *, slices: int = 3, seed: int = 0) -> None:
    """Write a patient whose middle slices hold a square of foreground."""
    rng = np.random.default_rng([seed, *patient.encode()])
    folder = root / patient
    folder.mkdir(parents=True)
    for number in range(1, slices + 1):
        image = rng.integers(0, 255, (ROWS, COLUMNS, 3), dtype=np.uint8)
        mask = np.zeros((ROWS, COLUMNS), np.uint8)
        if 1 < number < slices:
            mask[4:8, 4 : 8 + number] = 255
        Image.fromarray(image).save(folder / f"{patient}_{number}.tif")
        Image.fromarray(mask).save(folder / f"{patient}_{number}_mask.tif")


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Folder ``kaggle_3m`` of three patients with three slices each."""
    root = tmp_path / "kaggle_3m"
    for patient in PATIENTS:
        write_patient(root, patient)
    return root


@pytest.fixture
def manifest(kaggle: Path) -> Manifest:
    """The manifest of `kaggle`, with checksums, before anything is broken."""
    return read_layout("lgg", kaggle).manifest


@pytest.fixture
def patients() -> tuple[str, ...]:
    return PATIENTS


@pytest.fixture
def add_patient(kaggle: Path) -> Callable[..., None]:
    """Write a further patient into `kaggle`."""

    def add(patient: str, *, slices: int = 3) -> None:
        write_patient(kaggle, patient, slices=slices)

    return add
