"""A small synthetic dataset as nnU-Net (version 2) wants it: two channels, a file each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.layouts import read_layout
from pipeline.datasets.phantoms.fields import draw_smooth_noise
from pipeline.datasets.phantoms.hippocampus import LABELS, draw_hippocampus
from pipeline.datasets.phantoms.targets import make_folder, require_range
from pipeline.datasets.phantoms.volume_files import write_json, write_nifti, write_phantom_manifest

MIN_CASES, MAX_CASES = 3, 999
MIN_SIZE, MAX_SIZE = 24, 256
DATASET = "Dataset004_Hippocampus"


def write_nnunet_phantom(root: str | Path, *, cases: int = 12, seed: int = 0, size: int = 48) -> Path:
    """Write synthetic crops around a hippocampus, their manifest and the truth they were made from.

    The first channel is the image of the Decathlon's phantom, the second its inverse with noise of its own. Voxels are
    1 x 1 x 1.2 mm. The same arguments give the same bytes.

    Args:
        root: folder to write to; gets ``Dataset004_Hippocampus/``, ``manifest.json`` and ``truth.json``.
        cases: number of labelled cases, at least 3, of which a quarter is the test set.
        seed: seed of everything that is random, not negative.
        size: typical length of the second axis in voxels.

    Returns:
        Path of the manifest.

    Raises:
        InputError: ``cases``, ``seed`` or ``size`` is out of range, or ``root`` cannot be written or is in use.
    """
    require_range("cases", cases, MIN_CASES, MAX_CASES)
    require_range("size", size, MIN_SIZE, MAX_SIZE)
    require_range("seed", seed, 0)
    root = Path(root)
    source = make_folder(root / DATASET)
    affine = np.diag([1.0, 1.0, 1.2, 1.0])
    truth: dict[str, Any] = {}
    for index in range(cases):
        rng = np.random.default_rng([seed, index, 4])
        name = f"hippocampus_{index + 1:03d}"
        image, label = draw_hippocampus(rng, size)
        first = np.asarray(image, dtype=np.float32)
        second = first.max() - first + 0.05 * first.std() * draw_smooth_noise(rng, first.shape, (4, 4, 4))
        for number, channel in enumerate((first, second.astype(np.float32))):
            write_nifti(source / "imagesTr" / f"{name}_{number:04d}.nii.gz", channel, affine)
        write_nifti(source / "labelsTr" / f"{name}.nii.gz", label, affine)
        truth[name] = {"shape": list(label.shape), "voxels": [int((label == number).sum()) for number in LABELS]}
    description = {
        "name": "Hippocampus",
        "reference": "synthetic, written by `python -m pipeline dataset phantom nnunet`",
        "channel_names": {"0": "T1", "1": "inverse"},
        "labels": {name: number for number, name in LABELS.items()},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    write_json(source / "dataset.json", description)
    write_json(root / "truth.json", {"seed": seed, "size": size, "cases": truth})
    return write_phantom_manifest(read_layout("nnunet", source).manifest, root / "manifest.json", seed)
