"""A small synthetic dataset in the layout of the Decathlon's task 4: crops around a hippocampus, two labels."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.phantoms.fields import Field, blend, draw_smooth_noise, soft_step, to_bytes
from pipeline.datasets.phantoms.phantom_files import (
    LICENCE,
    finish_phantom,
    read_phantom,
    split_phantom,
    start_phantom,
    state_origin,
    write_json,
    write_nifti,
)

LABELS = {0: "background", 1: "Anterior", 2: "Posterior"}
TASK = "Task04_Hippocampus"
# Share of the long axis at which the head ends and the body begins.
BORDER = 0.56
# About two of ten images are bytes, the others floats on a far larger scale, as in the real set.
BYTE_SHARE = 0.2


def write_hippocampus_phantom(root: str | Path, *, cases: int = 12, seed: int = 0, size: int = 48) -> Path:
    """Write synthetic crops, their manifest and the truth.

    A hippocampus is a bent tube along the second axis, thick in front, with noise, a bias field and brighter fluid
    next to it. Voxels are 1 mm, axes RAS. Some images are uint8 from 0 to 255, most are float32 up to a few thousand.

    Args:
        root: folder to write to; gets ``Task04_Hippocampus/`` (``imagesTr``, ``labelsTr``, ``imagesTs``,
            ``dataset.json``), ``manifest.json`` and ``truth.json``.
        cases: number of labelled cases, 3 to 999, of which a quarter is the test set. Two more, without label, lie in
            ``imagesTs`` and are not in the manifest.
        seed: random seed, not negative.
        size: typical length of the second axis in voxels, 24 to 256; the real ones have 40 to 59.
    """
    source = start_phantom(root, TASK, cases=(cases, 3, 999), size=(size, 24, 256), seed=seed)
    truth: dict[str, Any] = {}
    training, test = [], []
    for index in range(cases + 2):
        name = f"hippocampus_{index * 2 + 1:03d}"
        image, label = draw_hippocampus(np.random.default_rng([seed, index]), size)
        paths = {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        if index < cases:
            write_nifti(source / paths["label"], label)
            training.append(paths)
        else:
            paths["image"] = f"./imagesTs/{name}.nii.gz"
            test.append(paths["image"])
        write_nifti(source / paths["image"], image)
        truth[name] = _describe(image, label)
    write_json(source / "dataset.json", _describe_task(training, test))
    manifest = split_phantom(read_phantom("decathlon", source), seed)
    return finish_phantom(source, manifest, seed=seed, size=size, cases=truth)


def _describe_task(training: list[dict[str, str]], test: list[str]) -> dict[str, Any]:
    return {
        "name": "Hippocampus",
        "description": "synthetic left and right hippocampi",
        "reference": state_origin("decathlon"),
        "licence": LICENCE,
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {str(number): name for number, name in LABELS.items()},
        "numTraining": len(training),
        "numTest": len(test),
        "training": training,
        "test": test,
    }


def draw_hippocampus(rng: np.random.Generator, size: int = 48) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Draw one crop.

    Args:
        rng: source of the random numbers.
        size: typical length of the second axis in voxels.

    Returns:
        Image, uint8 or float32, and label, uint8 (0, 1, 2), both (X, Y, Z).
    """
    scale = size / 48
    shape = tuple(max(12, round(scale * float(rng.uniform(*span)))) for span in ((31, 43), (42, 56), (26, 44)))
    inside, along = _draw_tube(rng, shape)
    label = np.where(inside > 0, np.where(along > BORDER, 1, 2), 0).astype(np.uint8)
    noisy = _render(inside, along, rng)
    gain = float(rng.uniform(0.8, 1.0))
    if rng.random() < BYTE_SHARE:
        return to_bytes(noisy * gain * 220), label
    return np.asarray(noisy * gain * float(rng.uniform(400, 3000)), dtype=np.float32), label


def _render(inside: Field, along: Field, rng: np.random.Generator) -> Field:
    """Return the signal with bias field and noise, about 0 to 1."""
    shape = inside.shape
    tissue = 0.55 + 0.07 * draw_smooth_noise(rng, shape, (4, 5, 4))
    fluid = soft_step(draw_smooth_noise(rng, shape, (3, 3, 3)) - 1.1, 0.15)
    signal = blend(tissue, 0.16, fluid * (inside < 0))
    signal = blend(signal, 0.74 + 0.05 * (along > BORDER), soft_step(inside, 0.6))
    bias = np.exp(0.12 * draw_smooth_noise(rng, shape, (2, 2, 2)))
    real, imaginary = (0.035 * rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    return np.asarray(np.hypot(signal * bias + real, imaginary))


def _draw_tube(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Field, Field]:
    """Return the depth below the surface of a bent tube in voxels, negative outside, and the share along its axis."""
    axes = [np.linspace(0, 1, length, dtype=np.float32) for length in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    low, high = rng.uniform(0.1, 0.18), rng.uniform(0.82, 0.9)
    along = np.clip((y - low) / (high - low), 0, 1)
    bend = rng.uniform(-0.12, 0.12)
    centre_x = 0.5 + rng.uniform(-0.06, 0.06) + bend * np.sin(np.pi * along)
    centre_z = 0.5 + rng.uniform(-0.05, 0.05) - 0.16 * (along - 0.4)
    radius = rng.uniform(0.15, 0.19) * (0.55 + 0.45 * along) * (1 + 0.06 * draw_smooth_noise(rng, shape, (3, 4, 3)))
    ends = (y - np.clip(y, low, high)) * 2.2
    distance = np.sqrt((x - centre_x) ** 2 + ((z - centre_z) * 1.15) ** 2 + ends**2)
    return np.asarray((radius - distance) * min(shape), dtype=np.float32), np.asarray(along, dtype=np.float32)


def _describe(image: NDArray[Any], label: NDArray[np.uint8]) -> dict[str, Any]:
    centres = {
        str(number): [round(float(c), 1) for c in np.argwhere(label == number).mean(axis=0)] for number in (1, 2)
    }
    voxels = {str(number): int((label == number).sum()) for number in (0, 1, 2)}
    return {"shape": list(image.shape), "dtype": str(image.dtype), "voxels": voxels, "centres": centres}
