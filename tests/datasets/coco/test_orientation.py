"""Photographs with an EXIF orientation: picture and outlines agree in check, training, conversion and prediction."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import LoadImage
from PIL import Image, ImageOps

from pipeline.commands.cli import main
from pipeline.datasets import find_images, load_datalist
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.datasets.probes.orientation import read_orientation, turn_to_stored
from pipeline.issues import InputError
from pipeline.transforms import LoadCocoMask, SaveImageMask

TAG = 274
# How Pillow undoes what a viewer does with a tag.
STORE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
LESION = (10, 20, 40, 60)  # left, top, width, height, as displayed


def write_photograph(path: Path, tag: int, size: tuple[int, int], seed: int) -> None:
    """Write a photograph of which viewers show a dark lesion at `LESION`, whatever its tag."""
    columns, rows = size
    picture = np.random.default_rng(seed).integers(120, 150, (rows, columns, 3)).astype(np.uint8)
    left, top, width, height = LESION
    picture[top : top + height, left : left + width] = 40
    shown = Image.fromarray(picture)
    exif = Image.Exif()
    exif[TAG] = tag
    path.parent.mkdir(parents=True, exist_ok=True)
    (shown if tag == 1 else shown.transpose(STORE[tag])).save(path, quality=95, exif=exif)


def write_export(root: Path, tags: list[int], size: tuple[int, int] = (120, 200), *, stored: bool = False) -> None:
    """Write photographs and outlines, drawn as displayed, or on the ``stored`` pixels."""
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, tag in enumerate(tags):
        name = f"p{number:02}.jpg"
        write_photograph(root / "train" / name, tag, size, number)
        outline = np.zeros(size[::-1], np.uint8)
        left, top, width, height = LESION
        outline[top : top + height, left : left + width] = 1
        outline = turn_to_stored(outline, tag) if stored else outline
        (top, left), (bottom, right) = np.argwhere(outline).min(0).tolist(), (np.argwhere(outline).max(0) + 1).tolist()
        images.append({"id": number, "file_name": name, "width": outline.shape[1], "height": outline.shape[0]})
        polygon = [left, top, right, top, right, bottom, left, bottom]
        rows.append({"id": number, "image_id": number, "category_id": 1, "segmentation": [polygon]})
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "lesion"}]}
    (root / "train" / "_annotations.coco.json").write_text(json.dumps(content))


def build(root: Path, manifest: Path, *options: str) -> int:
    return main(["dataset", "build", "coco", str(root), "-o", str(manifest), *options])


def measure_agreement(root: Path, manifest: Path) -> list[float]:
    """Return the share of the mask that is dark, or of the dark pixels in the mask, the smaller, as training reads."""
    load = LoadImage(reader="PILReader", reverse_indexing=False, ensure_channel_first=True)
    draw = LoadCocoMask(manifest, reverse_indexing=False)
    shares = []
    for item in load_datalist(manifest, root, "all"):
        dark = np.asarray(load(item["image"][0]))[0] < 80
        mask = np.asarray(draw(item["label"]))[0] > 0
        assert dark.shape == mask.shape
        shares.append(float(min((dark & mask).sum() / mask.sum(), (dark & mask).sum() / dark.sum())))
    return shares


@pytest.mark.parametrize("tag", range(1, 9))
def test_a_mask_is_turned_to_the_stored_pixels(tag: int, tmp_path: Path) -> None:
    stored = np.random.default_rng(tag).integers(0, 255, (5, 7), dtype=np.uint8)
    exif = Image.Exif()
    exif[TAG] = tag
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        assert read_orientation(image) == tag
        displayed = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(turn_to_stored(displayed, tag), stored)


@pytest.mark.parametrize("tag", range(2, 9))
@pytest.mark.parametrize("size", [(120, 200), (160, 160)], ids=["upright", "square"])
def test_outlines_drawn_as_displayed_agree_with_the_picture(
    tag: int, size: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_export(root, [1, tag, 1, tag], size)
    unclear = tag < 5 or size == (160, 160)
    options = []
    if unclear:
        assert build(root, manifest) == 1
        text = capsys.readouterr().err
        assert f"2 photographs have an EXIF orientation, for example train/p01.jpg (tag {tag})" in text
        assert "--orientation displayed if as viewers show" in text
        options = ["--orientation", "displayed"]
    assert build(root, manifest, *options) == 0
    data = read_manifest(manifest)
    assert data.coco is not None
    assert set(data.coco["turned"].values()) == {tag}
    assert {case.facts["foreground"] for case in data.cases} == {40 * 60}
    assert min(measure_agreement(root, manifest)) > 0.97
    capsys.readouterr()
    for level in ("--quick", "--deep"):
        assert main(["dataset", "check", str(manifest), "--dataset_dir", str(root), level, "--no-near"]) == 0
    assert "exif" not in capsys.readouterr().out
    # In another format: the picture loses its tag, so the outlines must lie on its pixels.
    out = tmp_path / "out"
    words = ["dataset", "convert", str(manifest), "--dataset_dir", str(root), "--to", "coco", "-o", str(out)]
    assert main(words) == 0
    assert build(out, tmp_path / "again.json") == 0
    assert min(measure_agreement(out, tmp_path / "again.json")) > 0.97


@pytest.mark.parametrize("tag", [3, 6])
def test_outlines_drawn_on_the_stored_pixels_stay(tag: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_export(root, [1, tag], stored=True)
    if tag == 3:
        assert build(root, manifest) == 1
    assert build(root, manifest, *(["--orientation", "stored"] if tag == 3 else [])) == 0
    assert min(measure_agreement(root, manifest)) > 0.97


def test_what_sizes_show_decides_for_the_others(tmp_path: Path) -> None:
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_export(root, [6, 3, 8, 1])
    assert build(root, manifest) == 0
    assert min(measure_agreement(root, manifest)) > 0.97


@pytest.mark.parametrize("tag", [3, 6])
def test_training_refuses_a_manifest_that_does_not_say_it(tag: int, tmp_path: Path) -> None:
    """Manifests built before the tag was looked at."""
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_export(root, [1, tag])
    assert build(root, manifest, "--orientation", "displayed") == 0
    content = json.loads(manifest.read_text())
    for key in ("orientation", "turned"):
        del content["coco"][key]
    manifest.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"exif-orientation|coco-size|shape-mismatch"):
        load_datalist(manifest, root, "all")
    assert main(["dataset", "check", str(manifest), "--dataset_dir", str(root)]) == 1


@pytest.mark.parametrize("key", ["orientation", "turned"])
def test_wrong_entries_of_a_manifest_are_named(key: str, tmp_path: Path) -> None:
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_export(root, [1, 6])
    assert build(root, manifest) == 0
    content = json.loads(manifest.read_text())
    content["coco"][key] = {"orientation": "upright", "turned": {"train/a.json#1": 9}}[key]
    manifest.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"coco\.{key}"):
        read_manifest(manifest)


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_predicted_mask_agrees_with_its_photograph_in_every_program(tag: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    write_photograph(path, tag, (120, 200), 0)
    (item,) = find_images(path, channels=3)
    image = LoadImage(reader="PILReader", reverse_indexing=False, ensure_channel_first=True)(item["image"])
    pred = (image[:1] < 80).to(torch.float32)
    mask_file, overlay = SaveImageMask(tmp_path / "out", values=[0, 255], overlay=True)(pred)
    with Image.open(path) as photograph, Image.open(mask_file) as mask, Image.open(overlay) as drawn:
        # Before loading, with which Pillow turns a TIFF file.
        assert read_orientation(mask) == read_orientation(photograph) == tag
        dark, found = (np.asarray(ImageOps.exif_transpose(picture).convert("L")) for picture in (photograph, mask))
        assert ImageOps.exif_transpose(drawn).size == (120, 200)
    assert np.array_equal(found > 0, dark < 80)
    assert np.argwhere(found).min(0).tolist() == [LESION[1], LESION[0]]


def test_a_mask_with_a_tag_that_its_picture_lacks_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((20, 30), np.uint8)
    mask[2:8, 3:9] = 255
    Image.fromarray(mask + 40).save(tmp_path / "images" / "a.png")
    exif = Image.Exif()
    exif[TAG] = 3
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png", exif=exif)
    manifest = tmp_path / "m.json"
    assert main(["dataset", "build", "folders", str(tmp_path), "-o", str(manifest)]) == 0
    assert "exif-orientation masks/a.png [a]: EXIF orientation 3: viewers turn the mask" in capsys.readouterr().err
    with pytest.raises(InputError, match="viewers turn the mask, MONAI does not, and its image lacks the tag"):
        load_datalist(manifest, tmp_path, "all")


@pytest.mark.parametrize(
    ("tag", "mode", "garbled"), [(6, "L", True), (8, "I;16", True), (3, "L", False), (6, "RGB", False)]
)
def test_turned_tiff_files_that_pillow_garbles_are_refused(tag: int, mode: str, garbled: bool, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (30, 20)).astype(np.uint16 if mode == "I;16" else np.uint8)
    exif = Image.Exif()
    exif[TAG] = tag
    picture = Image.fromarray(pixels)
    (picture.convert("RGB") if mode == "RGB" else picture).save(tmp_path / "a.tif", exif=exif)
    load = LoadImage(reader="PILReader", reverse_indexing=False, ensure_channel_first=True)
    if not garbled:
        assert len(find_images(tmp_path)) == 1
        assert np.array_equal(turn_to_stored(np.asarray(load(tmp_path / "a.tif"))[0], tag), pixels)
        return
    with pytest.raises(InputError, match="which Pillow and MONAI garble; turn the pixels and remove the tag, or save"):
        find_images(tmp_path)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "a.tif").unlink()
    assert np.array_equal(np.asarray(load(find_images(tmp_path)[0]["image"]))[0], pixels)
