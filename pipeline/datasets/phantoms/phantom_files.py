"""What all phantoms share: checked arguments, a new folder, files that are equal byte by byte, truth and manifest."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_atomically
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.datasets.splits.splits import split_manifest
from pipeline.issues import InputError

LICENCE = "CC0-1.0 (synthetic)"
MAX_FOLDS = 4


def start_phantom(root: str | Path, name: str, *, seed: int, **ranges: tuple[int, int, int]) -> Path:
    """Check the arguments of a phantom, then make the folder of its data.

    Args:
        root: folder of the phantom.
        name: folder to make in it.
        seed: must be at least 0.
        ranges: value, minimum and maximum of each other argument.

    Raises:
        InputError: an argument is out of range, or the folder exists or cannot be made.

    Example:
        >>> start_phantom("out", "images", seed=0, size=(8, 32, 1024))
        Traceback (most recent call last):
        pipeline.issues.InputError: size must be 32 to 1024, got 8
    """
    for argument, (value, low, high) in ranges.items():
        if not low <= value <= high:
            raise InputError(f"{argument} must be {low} to {high}, got {value}")
    if seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")
    return make_folder(Path(root) / name)


def make_folder(folder: Path) -> Path:
    """Make a new folder and those above it.

    Raises:
        InputError: it exists, or cannot be made.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{folder} exists already; remove it or choose another folder") from None
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    return folder


def finish_phantom(source: Path, manifest: Manifest, **truth: object) -> Path:
    """Write ``manifest.json`` and ``truth.json`` next to the data; return the path of the manifest."""
    write_json(source.parent / "truth.json", truth)
    return write_manifest(manifest, source.parent / "manifest.json")


def write_json(path: Path, content: object) -> None:
    """Write JSON text that ends in a line break."""
    with write_atomically(path) as stream:
        stream.write(json.dumps(content, indent=1) + "\n")


def write_nifti(path: Path, array: NDArray[Any], affine: NDArray[np.floating] | None = None) -> None:
    """Write a volume with voxels of 1 mm, or with the given affine, as ``.nii.gz``."""
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    with write_atomically(path, "wb", sync=False) as stream:
        # The gzip header holds neither time nor name.
        stream.write(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def state_origin(layout: str) -> str:
    """Return the source that a phantom's manifest names."""
    return f"synthetic, written by `python -m pipeline dataset phantom {layout}`"


def read_phantom(layout: str, source: Path, **options: Any) -> Manifest:
    """Return the manifest of a written phantom: cases as its layout is read, described as synthetic.

    Args:
        layout: a key of `pipeline.datasets.layouts.LAYOUTS`.
        source: folder of the data.
        options: for the reader.
    """
    return replace(
        read_layout(layout, source, **options).manifest,
        name=f"{layout}_phantom",
        licence=LICENCE,
        source=state_origin(layout),
        citations=(),
    )


def split_phantom(manifest: Manifest, seed: int) -> Manifest:
    """Return the labelled cases divided into a test set of about a quarter, and folds."""
    cases = tuple(case for case in manifest.cases if case.label is not None)
    ids = [case.case_id for case in cases]
    count = max(1, round(len(ids) / 4))
    chosen = [ids[index] for index in np.random.default_rng([seed, len(ids), 1]).permutation(len(ids))[:count]]
    folds = min(MAX_FOLDS, len(ids) - count)
    return split_manifest(replace(manifest, cases=cases), folds=folds, seed=seed, test_ids=chosen)
