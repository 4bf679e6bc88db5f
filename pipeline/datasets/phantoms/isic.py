"""A small synthetic dataset in the layout of ISIC 2018, task 1: photographs of skin lesions."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.datasets.phantoms.fields import Field, blend, draw_smooth_noise, soft_step, to_bytes
from pipeline.datasets.phantoms.phantom_files import finish_phantom, make_folder, read_phantom, start_phantom

SKIN = ((0.90, 0.72, 0.63), (0.80, 0.58, 0.46), (0.93, 0.80, 0.74))
PIGMENT = ((0.42, 0.24, 0.16), (0.55, 0.35, 0.26), (0.30, 0.19, 0.18))
HAIR = (58, 40, 34)
ASPECTS = ((3, 4), (2, 3), (4, 3))


@dataclass(frozen=True)
class Photograph:
    """The content and the light of an image; positions and lengths are fractions of its shorter side."""

    skin: tuple[float, ...]  #: colour of the skin, red, green and blue from 0 to 1
    pigment: tuple[float, ...]  #: colour of the lesion
    contrast: float  #: share of the skin's colour that the pigment hides, 0 to 1
    centre: tuple[float, float]  #: row and column of the lesion
    radii: tuple[float, float]  #: half axes of the lesion
    tilt: float  #: angle of the first axis, in radians
    edge: float  #: width over which the border fades
    hairs: int  #: number of hairs
    vignette: float  #: loss of light in the corners, 0 to 1
    aspect: tuple[int, int]  #: height and width as small whole numbers


def write_isic_phantom(root: str | Path, *, images: int = 12, size: int = 256, seed: int = 0) -> Path:
    """Write synthetic skin lesions, their manifest and the truth.

    Every image shows one lesion with an irregular border. The skin has hair as dark as the lesion, and the light fades
    towards the corners, so no threshold finds the lesion. As in the real set, sizes differ and the folders give the
    split: one of every four images is for validation and one for testing. The same arguments give the same bytes with
    the same version of the JPEG library.

    Args:
        root: folder to write to; gets ``isic2018/`` (the official folders), ``manifest.json`` and ``truth.json``.
        images: number of images, 3 to 9999.
        size: longer side of an image in pixels, 32 to 4096; the real ones have 540 to 6,688.
        seed: random seed, not negative.
    """
    source = start_phantom(root, "isic2018", images=(images, 3, 9999), size=(size, 32, 4096), seed=seed)
    truth: dict[str, Any] = {}
    for split in ("Training", "Validation", "Test"):
        for kind in (f"Task1-2_{split}_Input", f"Task1_{split}_GroundTruth"):
            make_folder(source / f"ISIC2018_{kind}")
        terms = source / f"ISIC2018_Task1-2_{split}_Input" / "LICENSE.txt"
        terms.write_text("CC0 1.0. Synthetic images.\n", encoding="utf-8")
    for index in range(images):
        split = ("Training", "Validation", "Test", "Training")[index % 4]
        name = f"ISIC_{index + 1:07d}"
        truth[name] = {"split": split, **_write_image(source, split, name, np.random.default_rng([seed, index]), size)}
    return finish_phantom(source, read_phantom("isic", source), seed=seed, size=size, images=truth)


def _write_image(source: Path, split: str, name: str, rng: np.random.Generator, size: int) -> dict[str, Any]:
    photograph = _draw_photograph(rng)
    height, width = (size * length // max(photograph.aspect) for length in photograph.aspect)
    clean, inside = _render(photograph, rng, height, width)
    picture = _add_hairs(clean, photograph.hairs, rng)
    # Sensor noise is drawn last, so everything before is the same at every size.
    pixels = np.asarray(picture, dtype=np.float32) + rng.normal(0, 3, (height, width, 1)).astype(np.float32)
    image = Image.fromarray(to_bytes(pixels))
    mask = inside > 0.5
    image.save(source / f"ISIC2018_Task1-2_{split}_Input" / f"{name}.jpg", quality=92)
    target = source / f"ISIC2018_Task1_{split}_GroundTruth" / f"{name}_segmentation.png"
    Image.fromarray(mask.astype(np.uint8) * 255).save(target)
    return {"shape": [height, width], "pixels": int(mask.sum()), "parameters": asdict(photograph)}


def _draw_photograph(rng: np.random.Generator) -> Photograph:
    tone, pigment = (colours[int(rng.integers(3))] for colours in (SKIN, PIGMENT))
    shade = rng.uniform(0.92, 1.05)
    radius = float(rng.uniform(0.16, 0.34))
    return Photograph(
        skin=tuple(min(1.0, float(channel * shade)) for channel in tone),
        pigment=pigment,
        contrast=float(rng.uniform(0.45, 0.95)),
        centre=(float(rng.uniform(-0.10, 0.10)), float(rng.uniform(-0.12, 0.12))),
        radii=(radius, radius * float(rng.uniform(0.65, 1.0))),
        tilt=float(rng.uniform(0, np.pi)),
        edge=float(rng.uniform(0.015, 0.05)),
        hairs=int(rng.integers(0, 15)),
        vignette=float(rng.uniform(0.15, 0.5)),
        aspect=ASPECTS[int(rng.integers(len(ASPECTS)))],
    )


def _render(photograph: Photograph, rng: np.random.Generator, height: int, width: int) -> tuple[Image.Image, Field]:
    """Return the photograph without hair and noise, and the share of lesion in each pixel (H, W)."""
    short = min(height, width)
    y = ((np.arange(height) + 0.5 - height / 2) / short)[:, None].astype(np.float32)
    x = ((np.arange(width) + 0.5 - width / 2) / short)[None, :].astype(np.float32)
    noises = [draw_smooth_noise(rng, (height, width), cells) for cells in ((5, 5), (9, 9), (24, 24), (60, 60), (3, 3))]
    inside = _shape_lesion(photograph, y, x, noises[0], noises[1])
    network = 1 + 0.12 * noises[2] + 0.08 * noises[3]
    light = (1 - photograph.vignette * np.clip(x**2 + y**2, 0, 1)) * (1 + 0.03 * noises[4])
    channels = []
    for skin, pigment in zip(photograph.skin, photograph.pigment, strict=True):
        below = skin * (1 + 0.02 * noises[2] + 0.02 * noises[3])
        channels.append(blend(below, pigment * network, inside * photograph.contrast) * light)
    return Image.fromarray(to_bytes(np.stack(channels, axis=-1) * 255)), inside


def _shape_lesion(
    photograph: Photograph, y: NDArray[np.float32], x: NDArray[np.float32], coarse: Field, fine: Field
) -> Field:
    rows, columns = y - photograph.centre[0], x - photograph.centre[1]
    along = columns * np.cos(photograph.tilt) + rows * np.sin(photograph.tilt)
    across = rows * np.cos(photograph.tilt) - columns * np.sin(photograph.tilt)
    distance = np.hypot(along / photograph.radii[0], across / photograph.radii[1])
    # The bumps fade with the distance, so that no islands appear far from the lesion.
    bumps = (0.20 * coarse + 0.07 * fine) * np.exp(-0.5 * ((distance - 1) / 0.5) ** 2)
    return soft_step((1 - distance + bumps) * photograph.radii[0], photograph.edge / 2)


def _add_hairs(image: Image.Image, hairs: int, rng: np.random.Generator) -> Image.Image:
    """Draw hairs as bent lines, at four times the size and then reduced, for smooth edges."""
    scale = 4
    layer = Image.new("L", (image.width * scale, image.height * scale), 0)
    pen = ImageDraw.Draw(layer)
    size = np.array(layer.size, dtype=np.float64)
    for _ in range(hairs):
        start, angle, bend = rng.uniform(0, 1, 2), rng.uniform(0, 2 * np.pi), rng.uniform(-1.2, 1.2)
        steps = np.linspace(0, 1, 24)
        angles = angle + bend * steps
        path = start * size + 0.5 * min(size) / 24 * np.cumsum(
            np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0
        )
        pen.line(
            [tuple(point) for point in path.tolist()],
            fill=220,
            width=max(2, round(min(size) * rng.uniform(0.004, 0.008))),
        )
    cover = layer.resize(image.size, Image.Resampling.BOX)
    return Image.composite(Image.new("RGB", image.size, HAIR), image, cover)
