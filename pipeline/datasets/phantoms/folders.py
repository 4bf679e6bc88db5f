"""A small synthetic dataset in plain folders: ultrasound pictures with cysts and nodules."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.datasets.phantoms.fields import Field, blend, draw_smooth_noise, soft_step, to_bytes
from pipeline.datasets.phantoms.phantom_files import finish_phantom, make_folder, read_phantom, start_phantom

KINDS = ("cyst", "nodule")
MASK_VALUES = "0,1=cyst,2=nodule"
# Echo of the lesion relative to the tissue.
ECHO = {"cyst": 0.10, "nodule": 0.40}
# Echo of the tissue below a lesion: a cyst lets more sound through, a nodule less.
BELOW = {"cyst": 1.35, "nodule": 0.72}


@dataclass(frozen=True)
class Lesion:
    """A lesion; lengths are fractions of the image's height."""

    kind: str  #: ``"cyst"`` or ``"nodule"``
    centre: tuple[float, float]  #: row and column
    radii: tuple[float, float]  #: half axes along rows and columns
    bumps: float  #: height of the border's irregularities


def write_folders_phantom(root: str | Path, *, images: int = 12, size: int = 128, seed: int = 0) -> Path:
    """Write synthetic ultrasound pictures in plain folders, their manifest and the truth.

    Cysts (label 1) are dark with a bright trail, nodules (label 2) less dark with a shadow. Because of speckle and
    shadows no threshold finds them.

    Args:
        root: folder to write to; gets ``dataset/`` (``train/``, ``val/`` and ``test/``, each with
            ``images/scan_001.png`` and ``masks/scan_001_mask.png``), ``manifest.json`` and ``truth.json``.
        images: number of images, 3 to 9999; one of every four is for validation and one for testing.
        size: height of an image in pixels, 32 to 2048; the width is a quarter more.
        seed: random seed, not negative.
    """
    source = start_phantom(root, "dataset", images=(images, 3, 9999), size=(size, 32, 2048), seed=seed)
    for split in ("train", "val", "test"):
        make_folder(source / split / "images")
        make_folder(source / split / "masks")
    truth: dict[str, Any] = {}
    for index in range(images):
        split = ("train", "val", "test", "train")[index % 4]
        # The first picture shows both kinds, so that the smallest dataset has all labels.
        kinds = KINDS if index % 4 == 0 else (KINDS[(index + index // 4) % 2],)
        name = f"scan_{index + 1:03d}"
        written = _write_image(source / split, name, kinds, np.random.default_rng([seed, index]), size)
        truth[name] = {"split": split, **written}
    manifest = read_phantom("folders", source, mask_values=MASK_VALUES)
    return finish_phantom(source, manifest, seed=seed, size=size, images=truth)


def _write_image(
    folder: Path, name: str, kinds: tuple[str, ...], rng: np.random.Generator, size: int
) -> dict[str, Any]:
    lesions = _draw_lesions(rng, kinds)
    pixels, mask = _render(lesions, rng, size)
    Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    Image.fromarray(mask).save(folder / "masks" / f"{name}_mask.png")
    counts = {kind: int(np.count_nonzero(mask == label)) for label, kind in enumerate(KINDS, start=1)}
    return {"pixels": counts, "lesions": [asdict(lesion) for lesion in lesions]}


def _draw_lesions(rng: np.random.Generator, kinds: tuple[str, ...]) -> list[Lesion]:
    """Place the lesions side by side."""
    lesions = []
    for index, kind in enumerate(kinds):
        share = 1.25 / len(kinds)
        column = share * (index + 0.5) + float(rng.uniform(-0.06, 0.06))
        radius = float(rng.uniform(0.11, 0.17))
        lesions.append(
            Lesion(
                kind=kind,
                centre=(float(rng.uniform(0.3, 0.55)), column),
                radii=(radius * float(rng.uniform(0.7, 1.0)), radius),
                bumps=0.04 if kind == "cyst" else float(rng.uniform(0.10, 0.18)),
            )
        )
    return lesions


def _render(lesions: list[Lesion], rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the picture and its mask, both (H, W)."""
    height, width = size, size * 5 // 4
    y = ((np.arange(height) + 0.5) / height).astype(np.float32)[:, None]
    x = ((np.arange(width) + 0.5) / height).astype(np.float32)[None, :]
    layers = draw_smooth_noise(rng, (height, width), (7, 2))
    fibres = draw_smooth_noise(rng, (height, width), (22, 5))
    echo = np.asarray(0.55 + 0.12 * layers + 0.07 * fibres, dtype=np.float32)
    mask = np.zeros((height, width), np.uint8)
    for lesion in lesions:
        border = draw_smooth_noise(rng, (height, width), (12, 15))
        distance = np.hypot((y - lesion.centre[0]) / lesion.radii[0], (x - lesion.centre[1]) / lesion.radii[1])
        depth = (1 - distance + lesion.bumps * border * np.exp(-0.5 * ((distance - 1) / 0.5) ** 2)).astype(np.float32)
        inside = soft_step(depth, 0.06)
        trail = soft_step(1 - np.abs(x - lesion.centre[1]) / (0.8 * lesion.radii[1]), 0.1) * soft_step(
            y - lesion.centre[0], 0.02
        )
        echo = echo * (1 + (BELOW[lesion.kind] - 1) * trail * (1 - inside))
        echo = blend(echo, ECHO[lesion.kind] * (0.55 + 0.08 * fibres), inside)
        mask[depth > 0] = KINDS.index(lesion.kind) + 1
    return _add_speckle(echo * (1.1 - 0.45 * y), rng), mask


def _add_speckle(echo: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return bytes with the grain of ultrasound: the magnitude of blurred complex noise, compressed."""
    grain = rng.standard_normal((2, *echo.shape))
    blurred = np.stack([ndimage.gaussian_filter(part, (0.6, 1.2)) for part in grain])
    speckle = np.hypot(*blurred)
    signal = np.clip(echo, 0, None) * (0.35 + 0.65 * speckle / speckle.mean())
    return to_bytes(255 * np.sqrt(np.clip(signal * 0.6, 0, 1)))
