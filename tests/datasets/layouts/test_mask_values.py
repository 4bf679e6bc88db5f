"""What the values of masks mean: read off all masks where one reading makes sense, told, or refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.layouts import read_layout
from pipeline.issues import InputError


def write_image(path: Path, *, bands: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([*str(path).encode()])
    pixels = rng.integers(0, 255, (16, 20) if bands == 1 else (16, 20, bands), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path: Path, *values: int) -> None:
    """Write a mask of zeros with one square of 4 pixels for each value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((16, 20), np.uint8)
    for place, value in enumerate(values or (255,)):
        mask[2:4, 2 + 2 * place : 4 + 2 * place] = value
    Image.fromarray(mask).save(path)


def told(root: Path, **options: str) -> str:
    with pytest.raises(InputError) as caught:
        read_layout("folders", root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("found", "option", "mask_values", "labels"),
    [
        ((255,), None, {0: 0, 255: 1}, ["background", "foreground"]),
        ((1,), None, {0: 0, 1: 1}, ["background", "foreground"]),
        ((1, 2, 3), None, {0: 0, 1: 1, 2: 2, 3: 3}, ["background", "label 1", "label 2", "label 3"]),
        ((128, 255), "0,128,255", {0: 0, 128: 1, 255: 2}, ["background", "label 1", "label 2"]),
        ((128, 255), "0, 255=tumour, 128=cyst", {0: 0, 255: 1, 128: 2}, ["background", "tumour", "cyst"]),
        ((1, 2), "0,1=tumour,2=tumour", {0: 0, 1: 1, 2: 1}, ["background", "tumour"]),
    ],
)
def test_values_are_read_off_or_told(
    tmp_path: Path, found: tuple[int, ...], option: str | None, mask_values: dict[int, int], labels: list[str]
) -> None:
    # Each value is in a mask of its own: one mask alone never says all.
    for value in found:
        write_image(tmp_path / "images" / f"{value}.png")
        write_mask(tmp_path / "masks" / f"{value}.png", value)
    draft = read_layout("folders", tmp_path, **({"mask_values": option} if option else {}))
    assert dict(draft.manifest.mask_values) == mask_values
    assert list(draft.manifest.labels.values()) == labels
    assert ("mask-values" in [note.code for note in draft.notes]) == (option is None)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ((1, 255), "the masks hold 0, 1, 255; list the values of the labels, background first: --mask-values 0,1,255"),
        ((2, 3), "the masks hold 0, 2, 3; list the values of the labels, background first: --mask-values 0,2,3"),
        ((0,), "the masks hold 0; list the values of the labels, background first: --mask-values 0,255"),
        (
            tuple(range(240, 249)),
            "the masks hold 10 values (0, 240, 241, 242, 243, 244, 245, 246, ...); list the values of the labels,"
            " background first: --mask-values 0,240,241,242,243,244,245,246,247,248; or --binarize 128 for blurred"
            " borders; --mask-values instances if each is an object",
        ),
    ],
)
def test_values_that_could_mean_anything_are_refused(tmp_path: Path, found: tuple[int, ...], message: str) -> None:
    write_image(tmp_path / "images" / "a.png")
    write_mask(tmp_path / "masks" / "a.png", *found)
    assert f"{tmp_path}: {message}" in told(tmp_path)


def test_masks_of_instances_and_with_a_threshold(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    write_mask(tmp_path / "masks" / "a.png", *range(100, 108))
    manifest = read_layout("folders", tmp_path, mask_values="instances").manifest
    assert (manifest.mask_type, dict(manifest.mask_values)) == ("instance", {})
    # Eight squares of 4 pixels, side by side.
    assert manifest.cases[0].facts["foreground"] == 32
    manifest = read_layout("folders", tmp_path, binarize="104").manifest
    assert (manifest.binarize, manifest.cases[0].facts["foreground"]) == (104.0, 16)


def test_lossy_and_coloured_masks_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    write_mask(tmp_path / "masks" / "a.jpg")
    text = told(tmp_path)
    assert "1 masks are JPEG, which changes their values, for example masks/a.jpg; --binarize" in text
    assert told(tmp_path, mask_values="0,255") == text
    assert read_layout("folders", tmp_path, binarize="128").manifest.cases[0].facts["foreground"] > 0
    (tmp_path / "masks" / "a.jpg").unlink()
    write_image(tmp_path / "masks" / "a.png", bands=3)
    assert "the mask masks/a.png has 3 channels that differ, expected grey; save the masks in grey" in told(tmp_path)
