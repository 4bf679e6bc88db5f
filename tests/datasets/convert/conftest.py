"""Small datasets that are hard to convert: odd affines, JPEG, palettes, turned pictures."""

import hashlib
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import Case, Manifest
from pipeline.datasets.phantoms import write_cells_phantom, write_coco_phantom

# A grid that is turned, mirrored, of uneven spacing and off the origin.
AFFINE = np.array([[-0.9 * 0.8, 1.1 * 0.6, 0, 12.5], [0.9 * 0.6, 1.1 * 0.8, 0, -7], [0, 0, 2.5, 3.25], [0, 0, 0, 1]])
SHAPE = (7, 9, 5)


def add_digests(manifest: Manifest, root: Path) -> Manifest:
    """Return the manifest with the sha256 of each file."""

    def digest(case: Case) -> Case:
        return replace(
            case, sha256={path: hashlib.sha256((root / path).read_bytes()).hexdigest() for path in case.files()}
        )

    return replace(manifest, cases=tuple(map(digest, manifest.cases)))


@pytest.fixture
def volumes(tmp_path: Path) -> tuple[Manifest, Path]:
    """Six NIfTI cases: folds 0 to 2 of four, one test case with a mask and one without; labels 0, 1 and 5."""
    root = tmp_path / "volumes"
    root.mkdir()
    cases = []
    for index in range(6):
        rng = np.random.default_rng(index)
        ending = ".nii" if index == 1 else ".nii.gz"
        image = (
            rng.normal(size=SHAPE).astype(np.float32) if index % 2 else rng.integers(0, 3000, SHAPE).astype(np.int16)
        )
        mask = rng.choice([0, 1, 5], size=SHAPE).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(image, AFFINE), root / f"image {index}{ending}")
        nibabel.save(nibabel.Nifti1Image(mask, AFFINE), root / f"mask {index}{ending}")
        test = index > 3
        case = Case(
            f"case {index}",
            f"P{index}",
            (f"image {index}{ending}",),
            None if index == 5 else (f"mask {index}{ending}",),
            split="test" if test else "train",
            fold=None if test else index % 3,
            facts={"shape": list(SHAPE), "dtype": str(image.dtype)},
        )
        cases.append(case)
    labels = {0: "Background", 1: "anterior", 5: "posterior"}
    values = {number: number for number in labels}
    manifest = Manifest("toy", "segmentation", "CC0", "here", labels, values, ("MRI",), tuple(cases), "header")
    return add_digests(manifest, root), root


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Manifest, Path]:
    """Five pictures with official splits: PNG, JPEG, one that viewers turn, one with a palette mask, one grey mask."""
    root = tmp_path / "pictures"
    root.mkdir()
    cases = []
    for index, split in enumerate(("train", "train", "train", "val", "test")):
        rng = np.random.default_rng(index)
        name = f"p{index}.{'jpg' if index % 2 else 'png'}"
        picture = Image.fromarray(rng.integers(0, 255, (20 + index, 30, 3), dtype=np.uint8))
        exif = Image.Exif()
        if index == 1:
            exif[0x0112] = 6
        picture.save(root / name, exif=exif)
        mask = np.zeros((20 + index, 30), np.uint8)
        mask[4:12, 5:15] = 255
        mask[6:9, 7:10] = 0
        mask[15, 20:25] = 255
        drawn = Image.fromarray(mask)
        if index == 2:
            drawn = Image.fromarray((mask > 0).astype(np.uint8))
            drawn.putpalette([0, 0, 0, 255, 0, 0])
        drawn.save(root / f"m{index}.png")
        cases.append(Case(f"p{index}", "", (name,), (f"m{index}.png",), split=split))
    manifest = Manifest(
        name="toy",
        task="segmentation",
        licence="CC0",
        source="here",
        labels={0: "background", 1: "lesion"},
        mask_values={0: 0, 255: 1},
        channels=("red", "green", "blue"),
        cases=tuple(cases),
        color_map={"#000000": 0, "#ff0000": 1},
    )
    return add_digests(manifest, root), root


@pytest.fixture(scope="session")
def cells_phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Manifest and folder of films with instance masks."""
    manifest = write_cells_phantom(tmp_path_factory.mktemp("cells"), frames=8, size=64)
    return manifest, next(folder for folder in manifest.parent.iterdir() if folder.is_dir())


@pytest.fixture(scope="session")
def coco_phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Manifest and folder of a COCO export."""
    manifest = write_coco_phantom(tmp_path_factory.mktemp("coco"), images=12, size=64)
    return manifest, manifest.parent / "export"
