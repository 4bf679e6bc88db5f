"""A figure of predictions: one row per case, with image, truth, prediction and overlay side by side, and titles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.pictures import figures
from pipeline.pictures.figures import GAP, Rgb, as_rgb, resize_labels

_LINE = 14  # pixels of a line of text


@dataclass(frozen=True)
class GalleryRow:
    """One case of a figure."""

    name: str  #: the title above it
    image: NDArray[Any]  #: (H, W) or (H, W, 3); 8-bit colours are shown unchanged, others as `to_rgb` gives
    pred: NDArray[Any]  #: (H, W), labels or instances, 0 is background
    truth: NDArray[Any] | None = None  #: as ``pred``; None if unknown


def draw_gallery(rows: Sequence[GalleryRow], width: int = 256) -> Rgb:
    """Draw cases one below the other: image, truth (if any is known), prediction, overlay.

    A mask with a single label is white on black; with several labels, each has its colour. The overlay is the last
    picture of `draw_panel`.

    Args:
        rows: the cases, of any sizes.
        width: pixels of a column; every picture is scaled to it in proportion.

    Returns:
        The figure (H, W, 3) with titles, white between its pictures.

    Raises:
        ValueError: there is no row, or the shapes of a row do not agree.

    Example:
        >>> draw_gallery([GalleryRow("a", np.zeros((8, 16)), np.zeros((8, 16), int))], width=64).shape
        (60, 200, 3)
    """
    if not rows:
        raise ValueError("a figure needs at least one case")
    with_truth = any(row.truth is not None for row in rows)
    titles = ["image", *(["truth"] if with_truth else []), "prediction", "overlay"]
    total = len(titles) * width + (len(titles) - 1) * GAP
    parts = [_write_line(titles, width, total)]
    for row in rows:
        parts += [_write_line([row.name], total, total), _draw_row(row, width, with_truth)]
    return np.concatenate(parts, axis=0)


def _draw_row(row: GalleryRow, width: int, with_truth: bool) -> Rgb:
    shapes = {row.image.shape[:2], row.pred.shape, (row.pred if row.truth is None else row.truth).shape}
    if len(shapes) > 1:
        raise ValueError(f"case {row.name}: image and masks must agree in size, got {sorted(shapes)}")
    height = max(1, round(row.pred.shape[0] * width / row.pred.shape[1]))
    plain = figures.resize_picture(as_rgb(row.image), height, width)
    pred = resize_labels(row.pred, height, width)
    truth = None if row.truth is None else resize_labels(row.truth, height, width)
    single = max(row.pred.max(), 0 if row.truth is None else row.truth.max()) <= 1
    known = None if truth is None else truth != 0
    overlay = figures.draw_overlay(plain, pred != 0, known) if single else figures.draw_labels(plain, pred)
    masks = [truth if truth is not None else np.zeros_like(pred), pred] if with_truth else [pred]
    tiles = [plain, *(_draw_mask(mask, single) for mask in masks), overlay]
    gap = np.full((height, GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([part for tile in tiles for part in (gap, tile)][1:], axis=1)


def _draw_mask(labels: NDArray[Any], single: bool) -> Rgb:
    if not single:
        return figures.colour_labels(labels)
    white: Rgb = np.repeat(((labels != 0) * np.uint8(255))[..., None], 3, axis=-1)
    return white


def _write_line(texts: Sequence[str], step: int, width: int) -> Rgb:
    """Return a white line with a text every ``step`` pixels."""
    line = Image.new("RGB", (width, _LINE), "white")
    draw = ImageDraw.Draw(line)
    for index, text in enumerate(texts):
        draw.text((index * (step + GAP) + 2, 1), _fit(draw, text, step - 4), fill="black")
    drawn: Rgb = np.asarray(line)
    return drawn


def _fit(draw: Any, text: str, width: int) -> str:
    """Return the text, shortened in the middle if it is too long."""
    # Pillow's built-in font has Latin letters only, and raises for others.
    text = text.encode("ascii", "replace").decode()
    shown, kept = text, len(text)
    while kept > 1 and draw.textlength(shown) > width:
        kept -= 1
        shown = f"{text[: kept - kept // 2]}..{text[len(text) - kept // 2 :]}"
    return shown
