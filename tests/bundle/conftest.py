"""Small datasets of every kind, and drafts of bundles for them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from pipeline.bundle.dataset import UserDataset, read_dataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.recipe import Recipe, read_template
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.datasets.splits.splits import split_manifest

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = ROOT / "bundles"


def write_pictures(
    folder: Path,
    *,
    values: tuple[int, ...] = (0, 255),
    channels: int = 1,
    number: int = 6,
    side: int = 40,
    beside: bool = False,
) -> Path:
    """Write pictures with one bright disc a value, and their masks; ``beside``: in one folder, told by their names.

    Returns:
        The dataset's folder.
    """
    images, masks = (folder / "images", folder / ("images" if beside else "masks"))
    images.mkdir(parents=True)
    masks.mkdir(exist_ok=True)
    rows, columns = np.mgrid[:side, : side + 8]
    for index in range(number):
        rng = np.random.default_rng(index)
        picture, mask = rng.normal(60, 12, (side, side + 8)), np.zeros((side, side + 8), np.uint8)
        for label, value in enumerate(values[1:], start=1):
            centre = rng.integers(8, side - 8), rng.integers(8, side)
            inside = np.hypot(rows - centre[0], columns - centre[1]) < 6
            picture[inside] += 40 + 50 * label
            mask[inside] = value
        pixels = np.clip(picture, 0, 255).astype(np.uint8)
        if channels > 1:
            pixels = np.stack([pixels, *[255 - pixels] * (channels - 1)], axis=-1)
        Image.fromarray(pixels).save(images / f"scan_{index}.png")
        Image.fromarray(mask).save(masks / f"scan_{index}{'_drawn' if beside else ''}.png")
    return folder


def write_volumes(
    folder: Path, *, spacing: tuple[float, ...] = (1, 1, 1), shape: tuple[int, ...] = (20, 24, 18)
) -> Path:
    """Write NIfTI volumes with a bright block of label 1; their indices grow to anterior, left and superior."""
    affine = np.zeros((4, 4))
    affine[1, 0], affine[0, 1], affine[2, 2], affine[3, 3] = spacing[0], -spacing[1], spacing[2], 1
    for index in range(4):
        volume = np.random.default_rng(index).normal(100, 10, shape).astype(np.float32)
        mask = np.zeros(shape, np.uint8)
        mask[4:10, 6 : 12 + index, 5:9] = 1
        volume[mask > 0] += 80
        for name, array in (("images", volume), ("masks", mask)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), folder / name / f"scan_{index}.nii.gz")
    return folder


def build(folder: Path, *, split: bool = True, change: dict[str, Any] | None = None, **options: str) -> Path:
    """Build and split the manifest of a folder, as the commands do; ``change`` replaces fields of it."""
    manifest = read_layout("folders", folder, **options).manifest
    if split:
        manifest = split_manifest(manifest, folds=2, seed=0)
    return write_manifest(replace(manifest, **(change or {})), folder.parent / f"{folder.name}.json")


@pytest.fixture(scope="session")
def grey(tmp_path_factory: pytest.TempPathFactory) -> UserDataset:
    """Grey pictures with one label, stored as 255. Shared: copy before changing it."""
    folder = write_pictures(tmp_path_factory.mktemp("grey") / "grey")
    return read_dataset(build(folder, mask_values="0,255=lesion"), folder)


@pytest.fixture(scope="session")
def colour(tmp_path_factory: pytest.TempPathFactory) -> UserDataset:
    """Pictures with three channels and two labels. Shared: copy before changing it."""
    folder = write_pictures(tmp_path_factory.mktemp("colour") / "colour", values=(0, 1, 2), channels=3)
    return read_dataset(build(folder, mask_values="0,1=cyst,2=nodule"), folder)


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> UserDataset:
    """NIfTI volumes with one label. Shared: copy before changing it."""
    folder = write_volumes(tmp_path_factory.mktemp("volumes") / "volumes", spacing=(1.5, 1.0, 2.0))
    return read_dataset(build(folder, mask_values="0,1=organ"), folder)


@pytest.fixture(scope="session")
def cells(grey: UserDataset) -> UserDataset:
    """Pictures of objects that are numbered, large enough for a network without padding."""
    cases = tuple(replace(case, facts={"shape": [200, 240], "dtype": "uint8"}) for case in grey.manifest.cases)
    manifest = replace(grey.manifest, cases=cases, mask_type="instance", mask_values={})
    return replace(grey, manifest=manifest, labels=("background", "cell"))


def join_stacks(dataset: UserDataset) -> UserDataset:
    """Return two stacks of three slices made from six pictures, one in each fold."""
    triples = [dataset.manifest.cases[start : start + 3] for start in (0, 3)]
    joined = tuple(
        replace(
            triple[0],
            case_id=f"stack_{index}",
            image=tuple(case.image[0] for case in triple),
            label=tuple(case.label[0] for case in triple if case.label),
            facts={"shape": [*triple[0].facts["shape"][:2], 3], "dtype": "uint8"},
            sha256={path: digest for case in triple for path, digest in case.sha256.items()},
            fold=index,
        )
        for index, triple in enumerate(triples)
    )
    return replace(dataset, manifest=replace(dataset.manifest, cases=joined))


def change_cases(dataset: UserDataset, *, copies: int = 1, **fields: Any) -> UserDataset:
    """Return a dataset whose cases have other values in some fields, and more cases."""
    cases = tuple(
        replace(case, **{"case_id": f"{case.case_id}_{copy}" if copies > 1 else case.case_id, **fields})
        for copy in range(copies)
        for case in dataset.manifest.cases
    )
    return replace(dataset, manifest=replace(dataset.manifest, cases=cases))


def make_draft(dataset: UserDataset, recipe: Recipe | str, folder: Path = Path("/home/bundles/fresh")) -> Draft:
    """Make a draft of a bundle ``fresh`` from a recipe, or from a template by its name."""
    recipe = read_template(recipe) if isinstance(recipe, str) else recipe
    return Draft(folder.name, folder, dataset, recipe)


@pytest.fixture
def repository_copy(tmp_path: Path) -> Path:
    """A folder with ``bundles/lgg_attunet`` in it, but for its weights."""
    shutil.copytree(
        BUNDLES / "lgg_attunet", tmp_path / "repo/bundles/lgg_attunet", ignore=shutil.ignore_patterns("*.pt", "*.png")
    )
    return tmp_path / "repo"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def with_labels(manifest: Manifest, *names: str) -> Manifest:
    return replace(manifest, labels=dict(enumerate(names)))
