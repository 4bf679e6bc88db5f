"""Mask files as people have them, from the folder to the tensor: several for a picture, 1 bit, grey, colour, JPEG."""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from monai.transforms import Compose, LoadImage, LoadImaged
from PIL import Image

from pipeline.commands.cli import main
from pipeline.datasets import find_images, load_datalist
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.issues import InputError
from pipeline.transforms import EncodeMaskd, LoadMasksd

ROWS, COLUMNS = 40, 56


def draw(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((ROWS, COLUMNS), bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def store(mask: np.ndarray, kind: str) -> Image.Image:
    """Return a mask as 1 bit, grey of 0 and 255, or the same saved in colour."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return Image.fromarray(mask.astype(np.uint8)) if kind == "ones" else grey.convert(kind)


def write_picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 200, (ROWS, COLUMNS, 3), dtype=np.uint8)).save(path)


FIRST, SECOND, THIRD = draw((4, 5, 12, 20)), draw((10, 15, 30, 25)), draw((35, 40, 38, 50))


def write_lesions(root: Path, kinds: Sequence[str] = ("1",)) -> dict[str, np.ndarray]:
    """Write pictures with one, two and three masks side by side, and return the union of each."""
    masks = {"benign (1)": [FIRST], "benign (2)": [FIRST, SECOND], "benign (3)": [FIRST, SECOND, THIRD]}
    number = 0
    for name, parts in masks.items():
        write_picture(root / "benign" / f"{name}.png", seed=len(parts))
        for index, part in enumerate(parts):
            end = f"_{index}" if index else ""
            store(part, kinds[number % len(kinds)]).save(root / "benign" / f"{name}_mask{end}.png")
            number += 1
    return {name: np.logical_or.reduce(parts) for name, parts in masks.items()}


def build(root: Path, manifest: Path, *options: str) -> int:
    return main(["dataset", "build", "folders", str(root), "-o", str(manifest), *options])


def check(root: Path, manifest: Path, *options: str) -> int:
    return main(["dataset", "check", str(manifest), "--dataset_dir", str(root), "--quiet", *options])


def refuse(root: Path, manifest: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Return the line with which a build is refused."""
    assert build(root, manifest, *options) == 1
    assert not manifest.exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


def load_masks(root: Path, manifest: Path, *, several: bool = False) -> dict[str, np.ndarray]:
    """Return the masks as a training reads them."""
    from pipeline.bundle.dataset import read_dataset

    try:
        encoding = read_dataset(manifest).encoding()
    except InputError:  # not split yet
        main(["dataset", "split", str(manifest), "--folds", "2"])
        encoding = read_dataset(manifest).encoding()
    loader: Any = LoadImaged("label", reader="PILReader", reverse_indexing=False, ensure_channel_first=True)
    loader = LoadMasksd("label", reverse_indexing=False) if several else loader
    chain = Compose([loader, EncodeMaskd("label", **encoding)])
    items = load_datalist(manifest, root, "all")
    return {item["case_id"]: np.asarray(chain({"label": item["label"]})["label"])[0] for item in items}


@pytest.mark.parametrize(
    "kinds", [("1",), ("L",), ("RGB",), ("RGBA",), ("LA",), ("1", "L", "RGB", "RGBA"), ("ones", "RGB")], ids="-".join
)
@pytest.mark.parametrize(
    "patterns",
    [
        ("--image", "*/*(?).png", "--mask", "*/*_mask.png"),
        ("--image", "*/*.png", "--mask", "*/*_mask.png"),
        ("--image", "*/*(?).png", "--mask", "*/*_mask*.png"),
    ],
    ids=["narrow", "images-take-masks", "masks-take-all"],
)
def test_several_masks_of_a_picture_are_united(
    kinds: tuple[str, ...], patterns: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    wanted = write_lesions(root, kinds)
    values = ("--mask-values", "0,1=foreground,255=foreground") if "ones" in kinds else ()
    assert build(root, manifest, *patterns, *values) == 0
    text = capsys.readouterr().err
    assert (
        "2 images have several masks, which are united: benign/benign (2).png has benign/benign (2)_mask_1.png too"
        in text
    )
    cases = {case.case_id: case for case in read_manifest(manifest).cases}
    assert {name: case.facts["foreground"] for name, case in cases.items()} == {n: m.sum() for n, m in wanted.items()}
    assert cases["benign (3)"].label == tuple(f"benign/benign (3)_mask{end}.png" for end in ("", "_1", "_2"))
    for level in ("--quick", "--deep"):
        assert check(root, manifest, level, "--no-near") == 0
    assert "foreground" not in capsys.readouterr().out
    loaded = load_masks(root, manifest, several=True)
    assert all(np.array_equal(loaded[name], mask) for name, mask in wanted.items())


def test_pictures_in_folders_of_their_own_may_have_several_masks(tmp_path: Path) -> None:
    for name, parts in {"a": [FIRST], "b": [FIRST, SECOND]}.items():
        write_picture(tmp_path / "images" / f"{name}.png")
        for index, part in enumerate(parts):
            path = tmp_path / "masks" / (f"{name}_segmentation{index + 1}.png" if index else f"{name}_segmentation.png")
            path.parent.mkdir(exist_ok=True)
            store(part, "L").save(path)
    cases = read_layout("folders", tmp_path).manifest.cases
    assert [case.label for case in cases] == [
        ("masks/a_segmentation.png",),
        ("masks/b_segmentation.png", "masks/b_segmentation2.png"),
    ]


def test_a_numbered_file_that_is_no_further_mask_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    for name in ("a", "a_1"):
        store(FIRST, "L").save(tmp_path / "masks" / f"{name}.png")
    with pytest.raises(InputError, match=r"1 mask has no image: masks/a_1\.png"):
        read_layout("folders", tmp_path)


def test_several_masks_with_several_labels_are_refused_with_the_values_to_give(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    for number, part in enumerate((FIRST, SECOND), start=1):
        end = "_1" if number > 1 else ""
        Image.fromarray(part.astype(np.uint8) * number).save(tmp_path / "masks" / f"a_mask{end}.png")
    with pytest.raises(InputError, match="can be united only if they hold one label") as caught:
        read_layout("folders", tmp_path)
    (values,) = re.findall(r"--mask-values (\S+),? or", str(caught.value))
    manifest = read_layout("folders", tmp_path, mask_values=values.rstrip(",")).manifest
    assert manifest.cases[0].facts["foreground"] == (FIRST | SECOND).sum()


def test_conversion_unites_several_masks(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    root, manifest = tmp_path / "data", tmp_path / "m.json"
    wanted = write_lesions(root, ("RGB", "1"))
    assert build(root, manifest, "--image", "*/*(?).png", "--mask", "*/*_mask.png") == 0
    for target, folder in (("nnunet", "Dataset001_x"), ("coco", "coco")):
        words = ["dataset", "convert", str(manifest), "--dataset_dir", str(root), "--to", target]
        assert main([*words, "-o", str(tmp_path / folder)]) == 0
    written = [np.asarray(Image.open(file)) > 0 for file in sorted((tmp_path / "Dataset001_x").rglob("labelsTr/*.png"))]
    assert sorted(mask.sum() for mask in written) == sorted(mask.sum() for mask in wanted.values())
    (file,) = (tmp_path / "coco" / "annotations").glob("instances_*.json")
    coco = COCO(str(file))
    for image in coco.imgs.values():
        drawn = np.logical_or.reduce([coco.annToMask(row) for row in coco.imgToAnns[image["id"]]])
        assert np.array_equal(
            drawn, wanted[image["file_name"].removesuffix(".png").replace("benign_", "benign (") + ")"]
        )


def test_a_new_bundle_reads_the_union_and_predicts_no_mask(tmp_path: Path) -> None:
    import json

    from monai.bundle import ConfigParser

    root, manifest = tmp_path / "data", tmp_path / "m.json"
    wanted = write_lesions(root, ("1", "RGB"))
    assert build(root, manifest, "--image", "*/*(?).png", "--mask", "*/*_mask.png") == 0
    assert main(["dataset", "split", str(manifest), "--folds", "3"]) == 0
    words = ["bundle", "new", "lesions", "--manifest", str(manifest), "--dataset_dir", str(root)]
    assert main([*words, "--template", "pictures", "--output", str(tmp_path / "bundles")]) == 0
    configs = tmp_path / "bundles" / "lesions" / "configs"
    train = json.loads((configs / "train.json").read_text())
    steps = [step for step in train["train"]["deterministic_transforms"] if step["keys"] != "image"]
    chain = Compose(ConfigParser({"imports": train["imports"], "steps": steps}).get_parsed_content("steps"))
    for item in load_datalist(manifest, root, "all"):
        assert np.array_equal(np.asarray(chain({"label": item["label"]})["label"])[0], wanted[item["case_id"]])
    assert [item["case_id"] for item in find_images(root, channels=3)] == sorted(wanted)


def write_discs(root: Path, write: Callable[[np.ndarray, Path], None]) -> list[int]:
    """Write pictures with a disc and its mask, and return the number of pixels of each disc."""
    rows, columns = np.mgrid[:160, :192]
    (root / "masks").mkdir(parents=True)
    areas = []
    for number in range(4):
        disc = (rows - 60 - 3 * number) ** 2 + (columns - 80) ** 2 < 30**2
        picture = np.random.default_rng(number).integers(20, 90, (160, 192, 3)).astype(np.uint8)
        picture[disc] += 120
        (root / "images").mkdir(exist_ok=True)
        Image.fromarray(picture).save(root / "images" / f"p{number}.jpg", quality=90)
        write(disc, root / "masks" / f"p{number}")
        areas.append(int(disc.sum()))
    return areas


def write_colour_jpeg(disc: np.ndarray, stem: Path) -> None:
    grey = np.repeat((disc * 255).astype(np.uint8)[..., None], 3, axis=-1)
    Image.fromarray(grey).save(stem.with_suffix(".jpg"), quality=85)


def write_grey_jpeg(disc: np.ndarray, stem: Path) -> None:
    Image.fromarray((disc * 255).astype(np.uint8)).save(stem.with_suffix(".jpg"), quality=85)


@pytest.mark.parametrize("write", [write_colour_jpeg, write_grey_jpeg])
def test_jpeg_masks_are_counted_as_the_hint_says(
    write: Callable[[np.ndarray, Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    areas = write_discs(root, write)
    assert areas == [2809] * 4
    with Image.open(root / "masks" / "p0.jpg") as mask:
        assert len(np.unique(np.asarray(mask))) > 10
    (option,) = re.findall(r"--binarize \d+", refuse(root, manifest, capsys))
    assert build(root, manifest, *option.split()) == 0
    assert [case.facts["foreground"] for case in read_manifest(manifest).cases] == areas
    for level in ("--deep", "--json"):
        assert check(root, manifest, level, "--no-near") == 0
    capsys.readouterr()
    assert [mask.sum() for mask in load_masks(root, manifest).values()] == areas
    words = ["dataset", "convert", str(manifest), "--dataset_dir", str(root), "--to", "nnunet"]
    assert main([*words, "-o", str(tmp_path / "Dataset001_x")]) == 0
    assert [
        np.asarray(Image.open(file)).sum() for file in sorted((tmp_path / "Dataset001_x").rglob("labelsTr/*.png"))
    ] == areas


def test_coloured_masks_are_refused_at_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(disc: np.ndarray, stem: Path) -> None:
        colours = np.zeros((*disc.shape, 3), np.uint8)
        colours[disc, 0] = 255
        Image.fromarray(colours).save(stem.with_suffix(".png"))

    write_discs(tmp_path, write)
    text = refuse(tmp_path, tmp_path / "m.json", capsys)
    assert "3 channels that differ, expected grey; save the masks in grey" in text
    for file in (tmp_path / "masks").iterdir():
        with Image.open(file) as mask:
            grey = mask.convert("L")
        grey.point(lambda value: 255 * (value > 0)).save(file)
    assert build(tmp_path, tmp_path / "m.json") == 0
    assert read_manifest(tmp_path / "m.json").cases[0].facts["foreground"] == 2809


def write_plain(root: Path, value: int = 255, number: int = 3) -> None:
    for index in range(number):
        write_picture(root / "images" / f"a{index}.png", seed=index)
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(FIRST.astype(np.uint8) * value).save(root / "masks" / f"a{index}.png")


@pytest.mark.parametrize(("given", "value"), [("0,1=cell", 255), ("0,255=cell", 1), ("0,128=cell", 7)])
def test_mask_values_that_do_not_occur_are_refused_with_those_that_do(
    given: str, value: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_plain(root, value)
    text = refuse(root, manifest, capsys, "--mask-values", given)
    assert re.search(rf"holds {value} \({FIRST.sum()} pixels\), the manifest allows 0, \d+ \(and 2 more\)", text)
    words = shlex.split(text.split(" with ")[-1])
    assert words == ["--mask-values", f"0,{value}=cell"]
    assert build(root, manifest, *words) == 0
    made = read_manifest(manifest)
    assert [case.facts["foreground"] for case in made.cases] == [FIRST.sum()] * 3
    assert made.labels == {0: "background", 1: "cell"}


def test_the_default_check_looks_at_the_values_of_a_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_plain(root, number=100)
    assert build(root, manifest) == 0
    wrong = manifest.read_text().replace('"255": 1', '"1": 1')
    manifest.write_text(wrong)
    capsys.readouterr()
    assert check(root, manifest, "--json", "--no-near") == 1
    import json

    found = json.loads(capsys.readouterr().out)
    values = [issue for issue in found["issues"] if issue["code"] == "label-values"]
    # Files vouched for by their checksum, yet one mask of each of 20 to 24 cases is decoded.
    assert 20 <= len(values) <= 24
    assert values[0]["hint"] == "build the manifest with --mask-values 0,255=foreground"
    with pytest.raises(InputError, match="label-values"):
        load_datalist(manifest, root, "all")


def test_a_threshold_above_all_values_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_plain(root, 1)
    text = refuse(root, manifest, capsys, "--binarize", "128")
    assert "holds 0, 1, all below the threshold 128" in text
    (option,) = re.findall(r"--mask-values \S+", text)
    assert build(root, manifest, *option.split()) == 0
    assert read_manifest(manifest).cases[0].facts["foreground"] == FIRST.sum()


def test_channels_and_sizes_that_differ_are_said_at_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    write_plain(root)
    with Image.open(root / "masks" / "a2.png") as mask:
        mask.crop((0, 0, 30, 40)).save(root / "masks" / "a2.png")
    Image.new("LA", (COLUMNS, ROWS), (9, 255)).save(root / "images" / "a1.png")
    assert build(root, tmp_path / "m.json") == 0
    text = capsys.readouterr().err
    assert "note: channels images/a1.png [a1]: 2 channels, the manifest names 3" in text
    assert "note: shape-mismatch masks/a2.png [a2]: the mask is 40 x 30, its image images/a2.png is 40 x 56" in text


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_masks_that_count_from_white_are_refused(
    dtype: type, declared: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the stored or the shown 0 is the background, no reader can know."""
    root, manifest = tmp_path / "data", tmp_path / "m.json"
    write_picture(root / "images" / "a.png")
    (root / "masks").mkdir()
    stored = FIRST if dtype is bool else FIRST.astype(dtype) * 255
    tifffile.imwrite(root / "masks" / "a.tif", stored, photometric="miniswhite")
    options = ["--mask-values", "0,1=x,255=x"] if declared else []
    text = refuse(root, manifest, capsys, *options)
    assert "(WhiteIsZero), which not all programs apply; look at it, and save it as PNG with 0 as black" in text
    assert build(root, manifest, *options, "--skip-broken") == (0 if declared else 1)
    if declared:
        with pytest.raises(InputError, match=r"inverted-grey masks/a\.tif"):
            load_datalist(manifest, root, "all")
        assert check(root, manifest) == 1
        manifest.unlink()
    Image.fromarray(FIRST.astype(np.uint8) * 255).save(root / "masks" / "a.png")
    (root / "masks" / "a.tif").unlink()
    assert build(root, manifest, *options) == 0
    assert read_manifest(manifest).cases[0].facts["foreground"] == FIRST.sum()


def test_pictures_that_count_from_white_are_read_as_shown_or_refused(tmp_path: Path) -> None:
    shown = np.arange(80, dtype=np.uint8).reshape(8, 10)
    tifffile.imwrite(tmp_path / "a.tif", 255 - shown, photometric="miniswhite")
    (item,) = find_images(tmp_path, channels=1)
    read = LoadImage(reader="PILReader", reverse_indexing=False, ensure_channel_first=True)
    assert np.array_equal(np.asarray(read(item["image"]))[0], shown)
    tifffile.imwrite(tmp_path / "b.tif", shown.astype(np.uint16), photometric="miniswhite")
    with pytest.raises(InputError, match=r"b\.tif: the grey scale of this TIFF is inverted"):
        find_images(tmp_path, channels=1)
