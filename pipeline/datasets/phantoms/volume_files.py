"""Writing the files of 3-D phantoms: the same arrays give the same bytes."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_atomically
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.datasets.splits.splits import split_manifest

MAX_FOLDS = 4


def write_nifti(path: Path, array: NDArray[Any], affine: NDArray[np.floating] | None = None) -> None:
    """Write a volume of 1 mm voxels, or with the given affine, as ``.nii.gz``."""
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    with write_atomically(path, "wb", sync=False) as stream:
        # No time and no name in the gzip header.
        stream.write(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def write_json(path: Path, content: object) -> None:
    """Write JSON text that ends in a line break."""
    with write_atomically(path) as stream:
        stream.write(json.dumps(content, indent=1) + "\n")


def write_phantom_manifest(manifest: Manifest, target: Path, seed: int) -> Path:
    """Deal the labelled cases into a test set of about a quarter and folds, and write their manifest.

    Args:
        manifest: as read from the phantom; cases without label are left out.
        target: file to write.
        seed: of the split.
    """
    cases = tuple(case for case in manifest.cases if case.label is not None)
    name, licence = f"{manifest.layout}_phantom", "CC0-1.0 (synthetic)"
    manifest = replace(manifest, name=name, licence=licence, citations=(), cases=cases)
    ids = [case.case_id for case in cases]
    count = max(1, round(len(ids) / 4))
    chosen = [ids[index] for index in np.random.default_rng([seed, len(ids), 1]).permutation(len(ids))[:count]]
    folds = min(MAX_FOLDS, len(ids) - count)
    return write_manifest(split_manifest(manifest, folds=folds, seed=seed, test_ids=chosen), target)
