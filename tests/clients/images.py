"""Phantoms as clients hand them over: single files in each format, and a folder of images and labels."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.transforms import LoadImage
from PIL import Image

from pipeline.datasets import load_datalist
from pipeline.datasets.phantoms.dicom import Geometry, write_series
from pipeline.transforms.io.volume_reader import VolumeReader
from tests.bundles.conftest import read_json
from tests.bundles.running import load_truth

VOLUMES, STACKS, PICTURES = "volumes", "stacks", "pictures"
FORMATS = {
    VOLUMES: (".nii.gz", ".nii", ".mha", ".nrrd"),
    STACKS: (".tif", ".png"),
    PICTURES: (".png", ".tif", ".bmp"),
}


def find_kind(bundle: Path) -> str:
    """Return what a bundle's cases are."""
    layout = read_json(bundle / "configs/metadata.json")["phantom"]["layout"]
    return {"decathlon": VOLUMES, "lgg": STACKS}.get(layout, PICTURES)


@dataclass(frozen=True)
class Item:
    """An image file and its label ids."""

    name: str  #: unique
    image: Path  #: one file; of a stack one slice
    label: np.ndarray  #: label ids on the file's own grid


def list_items(bundle: Path, data: dict[str, str], split: str) -> Iterator[Item]:
    """Yield the files of a bundle's phantom that have a label."""
    for case in load_datalist(**data, split=split, fold=read_json(bundle / "configs/train.json")["fold"]):
        truth = np.asarray(load_truth(bundle, data, case))[0]
        images = list(map(Path, case["image"]))
        layers = np.moveaxis(truth, -1, 0) if find_kind(bundle) == STACKS else [truth]
        for image, layer in zip(images, layers, strict=True):
            # Label counts everything up to the first dot as the name.
            yield Item(f"{case['case_id']}_{image.name.split('.')[0]}".replace("/", "_"), image, layer)


def write_copy(image: Path, target: Path) -> Path:
    """Write an image in another format, with the same values on the same grid."""
    if image.name.endswith(".nii.gz"):
        _write_volume(image, target)
    elif image.suffix == target.suffix:
        shutil.copy(image, target)
    else:
        with Image.open(image) as picture:
            picture.save(target)
    return target


def _write_volume(image: Path, target: Path) -> None:
    import itk

    if target.name.endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.load(image), target)
    else:
        itk.imwrite(itk.imread(str(image)), str(target))


def write_series_and_volume(image: Path, folder: Path) -> tuple[Path, Path]:
    """Write the voxels of a NIfTI file as a DICOM series, and the series as a NIfTI file."""
    voxels = np.asarray(nibabel.load(image).dataobj)
    scaled = (voxels * (1000 / voxels.max())).astype(np.int16)
    geometry = Geometry((-20.0, 10.0, 5.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.2, 1.1))
    write_series(folder / "series", scaled.transpose(2, 1, 0), geometry, "patient")
    loaded = LoadImage(reader=VolumeReader())(folder / "series")
    target = folder / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(loaded.numpy(), loaded.affine.numpy()), target)
    return folder / "series", target


def fill_datastore(bundle: Path, data: dict[str, str], folder: Path, split: str = "train", most: int = 5) -> Path:
    """Write images and labels as MONAI Label stores them: ``labels/final`` holds files of the images' names.

    Labels have the label's number as value, as those that MONAI Label writes.
    """
    labels = folder / "labels/final"
    labels.mkdir(parents=True)
    items = [item for item in list_items(bundle, data, split) if item.label.max() > 0][:most]
    for item in items:
        suffix = ".nii.gz" if find_kind(bundle) == VOLUMES else item.image.suffix
        shutil.copy(item.image, folder / f"{item.name}{suffix}")
        if find_kind(bundle) == VOLUMES:
            affine = nibabel.load(item.image).affine
            nibabel.save(nibabel.Nifti1Image(item.label.astype(np.uint8), affine), labels / f"{item.name}{suffix}")
        else:
            dtype = np.uint8 if item.label.max() < 256 else np.uint16
            Image.fromarray(item.label.astype(dtype)).save(labels / f"{item.name}.png")
    return folder


def read_mask(path: Path) -> Any:
    """Read the label ids of a written mask; masks of pictures may hold 255 for label 1."""
    if path.name.endswith((".nii", ".nii.gz")):
        return np.asarray(nibabel.load(path).dataobj)
    if path.suffix in (".mha", ".nrrd"):
        import itk

        return itk.array_from_image(itk.imread(str(path))).transpose()
    pixels = np.asarray(Image.open(path))
    return pixels // 255 if pixels.dtype == np.uint8 and set(np.unique(pixels)) <= {0, 255} else pixels
