"""A small synthetic dataset in the layout of the Cell Tracking Challenge: two films of moving cells."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.datasets.phantoms.fields import Field, draw_smooth_noise, soft_step, to_bytes
from pipeline.datasets.phantoms.phantom_files import finish_phantom, make_folder, read_phantom, start_phantom
from pipeline.datasets.splits.splits import add_named_split

NAME = "PhC-C2DH-PHANTOM"
FILMS = ("01", "02")
GOLD_EVERY = 4
# Silver masks are a vote of algorithms, whose common border lies inside the true one.
SILVER_MARGIN = 0.08

Ids = NDArray[np.uint16]


@dataclass(frozen=True)
class Cell:
    """A cell and its path; lengths are fractions of the frame's height."""

    start: tuple[float, float]  #: row and column at the first frame
    step: tuple[float, float]  #: rows and columns per frame
    wander: float  #: amplitude of the swings around the straight path
    phase: float  #: phase of the swings and of the outline, in radians
    radius: float  #: mean radius
    waves: tuple[float, float, float]  #: relative height of the waves of the outline with 2, 3 and 5 crests
    turn: float  #: rotation per frame, in radians


def write_cells_phantom(root: str | Path, *, frames: int = 24, size: int = 192, seed: int = 0) -> Path:
    """Write two synthetic films, their manifests and the truth.

    Cells with bright halos, as in phase contrast, move, turn and touch on an uneven background of the same mean grey.
    As in the real sets, gold masks are exact but exist for one frame in four only; silver ones exist for every frame
    and are a little too small; ``*_ERR_SEG`` is wrong on purpose.

    Args:
        root: folder to write to; gets ``PhC-C2DH-PHANTOM/`` (films and masks), ``manifest.json`` (gold masks; film 01
            for training, its later third for validation in the split ``time``; film 02 for testing),
            ``manifest_silver.json`` (silver masks of 01, gold ones of 02) and ``truth.json``.
        frames: number of frames of each film, 2 to 999.
        size: height of a frame in pixels, 32 to 2048; the width is a third more.
        seed: random seed, not negative.
    """
    source = start_phantom(root, NAME, frames=(frames, 2, 999), size=(size, 32, 2048), seed=seed)
    truth = {
        film: _write_film(source, film, np.random.default_rng([seed, index]), frames, size)
        for index, film in enumerate(FILMS)
    }
    write_manifest(_build_manifest(source, "01=silver,02=gold"), source.parent / "manifest_silver.json")
    return finish_phantom(source, _build_manifest(source, "gold"), seed=seed, size=size, films=truth)


def _build_manifest(source: Path, masks: str) -> Manifest:
    manifest = read_phantom("cell_tracking", source, masks=masks)
    cases = tuple(replace(case, split="test" if case.facts["sequence"] == "02" else "train") for case in manifest.cases)
    manifest = replace(manifest, name="cells_phantom", cases=cases)
    train = [case.case_id for case in cases if case.split == "train"]
    later = len(train) // 3
    if later:  # a split in time leaves out the frame between, so it needs three
        between = train[-later - 1 : -later]
        manifest = add_named_split(manifest, "time", train[-later:], "the later frames of film 01", between)
    return manifest


def _write_film(source: Path, film: str, rng: np.random.Generator, frames: int, size: int) -> dict[str, Any]:
    height, width = size, size * 4 // 3
    cells = _draw_cells(rng)
    coarse, fine, texture = (draw_smooth_noise(rng, (height, width), bumps) for bumps in ((3, 4), (24, 32), (30, 40)))
    ground = 0.03 * coarse + 0.02 * fine
    folders = ("", "_GT/SEG", "_GT/TRA", "_ST/SEG", "_ERR_SEG")
    targets = {folder: make_folder(source / f"{film}{folder}") for folder in folders}
    pixels = []
    for number in range(frames):
        inside = _shape_cells(cells, number, height, width)
        ids = _number_cells(inside, 0.0)
        _save(_render(inside, ground, texture, rng), targets[""] / f"t{number:03d}.tif")
        _save(_number_cells(inside, SILVER_MARGIN), targets["_ST/SEG"] / f"man_seg{number:03d}.tif")
        _save(_number_cells(inside, 0.6), targets["_GT/TRA"] / f"man_track{number:03d}.tif")
        _save(_spoil(ids), targets["_ERR_SEG"] / f"mask{number:03d}.tif")
        if number % GOLD_EVERY == 1:
            _save(ids, targets["_GT/SEG"] / f"man_seg{number:03d}.tif")
        pixels.append({str(cell): int(count) for cell, count in zip(*np.unique(ids, return_counts=True), strict=True)})
    rows = [f"{number} 0 {frames - 1} 0" for number in range(1, len(cells) + 1)]
    (targets["_GT/TRA"] / "man_track.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return {"frames": frames, "cells": [asdict(cell) for cell in cells], "pixels_by_frame": pixels}


def _draw_cells(rng: np.random.Generator) -> list[Cell]:
    """Place cells on a jittered grid, so that they touch at times and rarely hide each other."""
    places = [(row, column) for row in (0.27, 0.73) for column in (0.25, 0.67, 1.09)]
    kept = rng.permutation(len(places))[: int(rng.integers(4, 7))]
    cells = []
    for index in sorted(kept.tolist()):
        jitter = rng.uniform(-0.07, 0.07, 2)
        cells.append(
            Cell(
                start=(places[index][0] + float(jitter[0]), places[index][1] + float(jitter[1])),
                step=(float(rng.uniform(-0.002, 0.002)), float(rng.uniform(-0.003, 0.003))),
                wander=float(rng.uniform(0.01, 0.04)),
                phase=float(rng.uniform(0, 2 * np.pi)),
                radius=float(rng.uniform(0.10, 0.17)),
                waves=(float(rng.uniform(0.1, 0.3)), float(rng.uniform(0.05, 0.2)), float(rng.uniform(0.0, 0.12))),
                turn=float(rng.uniform(-0.05, 0.05)),
            )
        )
    return cells


def _shape_cells(cells: list[Cell], number: int, height: int, width: int) -> Field:
    """Return the depth of each pixel in each cell (N, H, W): 1 in the centre, 0 on the border, negative outside."""
    y = ((np.arange(height) + 0.5) / height)[:, None]
    x = ((np.arange(width) + 0.5) / height)[None, :]
    shapes = []
    for cell in cells:
        swing = 0.15 * number + cell.phase
        row = cell.start[0] + cell.step[0] * number + cell.wander * np.sin(swing)
        column = cell.start[1] + cell.step[1] * number + cell.wander * np.cos(0.7 * swing)
        angle = np.arctan2(y - row, x - column) + cell.turn * number
        crests = zip((2, 3, 5), cell.waves, strict=True)
        outline = 1 + sum(wave * np.sin(crest * angle + cell.phase + 0.1 * number) for crest, wave in crests)
        shapes.append(1 - np.hypot(y - row, x - column) / (cell.radius * np.maximum(outline, 0.3)))
    return np.asarray(np.stack(shapes), dtype=np.float32)


def _number_cells(inside: Field, margin: float) -> Ids:
    """Return the id of the cell that each pixel lies in, deeper than a margin; 0 for none."""
    ids = np.where(inside.max(axis=0) > margin, inside.argmax(axis=0) + 1, 0)
    return np.asarray(ids, dtype=np.uint16)


def _render(inside: Field, ground: Field, texture: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    depth = inside.max(axis=0)
    body = soft_step(depth, 0.04)
    halo = np.exp(-0.5 * ((depth + 0.12) / 0.10) ** 2)
    nucleus = np.exp(-0.5 * ((depth - 1) / 0.25) ** 2)
    signal = 0.45 + ground + 0.10 * halo + body * (0.06 * texture - 0.03) - 0.10 * nucleus
    signal = signal + rng.normal(0, 0.012, signal.shape)
    return to_bytes(signal * 255)


def _spoil(ids: Ids) -> Ids:
    """Return an obviously wrong mask: shifted, and all cells with the same id."""
    shifted = np.roll(ids, (ids.shape[0] // 4, ids.shape[1] // 4), axis=(0, 1))
    return (shifted > 0).astype(np.uint16)


def _save(pixels: NDArray[np.uint8] | Ids, path: Path) -> None:
    Image.fromarray(pixels).save(path, compression="tiff_lzw")
