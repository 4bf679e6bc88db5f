"""A small synthetic dataset in the layout of nnU-Net (version 2): two channels, one file per channel."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.phantoms.fields import draw_smooth_noise
from pipeline.datasets.phantoms.hippocampus import LABELS, draw_hippocampus
from pipeline.datasets.phantoms.phantom_files import (
    finish_phantom,
    read_phantom,
    split_phantom,
    start_phantom,
    state_origin,
    write_json,
    write_nifti,
)

DATASET = "Dataset004_Hippocampus"
AFFINE = np.diag([1.0, 1.0, 1.2, 1.0])


def write_nnunet_phantom(root: str | Path, *, cases: int = 12, seed: int = 0, size: int = 48) -> Path:
    """Write synthetic crops around a hippocampus, their manifest and the truth.

    The first channel is the image of the Decathlon phantom, the second its inverse with separate noise. Voxels are
    1 x 1 x 1.2 mm.

    Args:
        root: folder to write to; gets ``Dataset004_Hippocampus/``, ``manifest.json`` and ``truth.json``.
        cases: number of labelled cases, 3 to 999, of which a quarter is the test set.
        seed: random seed, not negative.
        size: typical length of the second axis in voxels, 24 to 256.
    """
    source = start_phantom(root, DATASET, cases=(cases, 3, 999), size=(size, 24, 256), seed=seed)
    truth = {}
    for index in range(cases):
        name = f"hippocampus_{index + 1:03d}"
        truth[name] = _write_case(source, name, np.random.default_rng([seed, index, 4]), size)
    description = {
        "name": "Hippocampus",
        "reference": state_origin("nnunet"),
        "channel_names": {"0": "T1", "1": "inverse"},
        "labels": {name: number for number, name in LABELS.items()},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    write_json(source / "dataset.json", description)
    manifest = split_phantom(read_phantom("nnunet", source), seed)
    return finish_phantom(source, manifest, seed=seed, size=size, cases=truth)


def _write_case(source: Path, name: str, rng: np.random.Generator, size: int) -> dict[str, Any]:
    image, label = draw_hippocampus(rng, size)
    first = np.asarray(image, dtype=np.float32)
    second = first.max() - first + 0.05 * first.std() * draw_smooth_noise(rng, first.shape, (4, 4, 4))
    for number, channel in enumerate((first, second.astype(np.float32))):
        write_nifti(source / "imagesTr" / f"{name}_{number:04d}.nii.gz", channel, AFFINE)
    write_nifti(source / "labelsTr" / f"{name}.nii.gz", label, AFFINE)
    return {"shape": list(label.shape), "voxels": [int((label == number).sum()) for number in LABELS]}
