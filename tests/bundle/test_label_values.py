"""Masks whose values are not 0, 1, 2, ...: numbered for the network, and written with their own values."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from PIL import Image

from pipeline.bundle.dataset import read_dataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.recipe import read_template
from pipeline.bundle.render import render_configs
from pipeline.bundle.texts import list_notes, write_card
from pipeline.datasets import load_datalist, write_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.layouts.mask_values import parse_mask_values
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.splits.splits import split_manifest
from pipeline.issues import InputError

# Of the MM-WHS challenge.
HEART = (0, 205, 420, 500, 550, 600, 820, 850)
SHAPE = (20, 24, 18)


def write_case(
    root: Path, number: int, values: tuple[int, ...], names: tuple[str, str], dtype: type = np.int16
) -> None:
    """Write a volume with a block of each value, and its mask."""
    mask = np.zeros(SHAPE, dtype)
    for place, value in enumerate(values[1:]):
        mask[2 + 2 * place : 4 + 2 * place, 4 + number : 15, 3:14] = value
    image = np.random.default_rng(number).normal(0, 20, SHAPE).astype(np.float32) + mask / 5
    for name, array in zip(names, (image, mask), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.diag([-0.8, -0.8, 1.5, 1])), root / name)


def write_folders(root: Path, values: tuple[int, ...], number: int = 4) -> None:
    for index in range(number):
        write_case(root, index, values, (f"images/ct_{index}.nii.gz", f"labels/ct_{index}.nii.gz"))


def write_nnunet(root: Path, values: tuple[int, ...], labels: dict[str, Any]) -> None:
    for index in range(4):
        write_case(root, index, values, (f"imagesTr/c{index}_0000.nii.gz", f"labelsTr/c{index}.nii.gz"), np.uint16)
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 4, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(description))


def write_decathlon(root: Path, values: tuple[int, ...]) -> None:
    for index in range(4):
        write_case(root, index, values, (f"imagesTr/c{index}.nii.gz", f"labelsTr/c{index}.nii.gz"))


def tell(action: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def follow(layout: str, root: Path) -> Manifest:
    """Build a manifest; if a message asks for an option, give it as the message writes it."""
    try:
        return read_layout(layout, root).manifest
    except InputError as error:
        option, value = re.findall(r"--([\w-]+) ([^\s;]+)", str(error))[0]
        return read_layout(layout, root, **{option.replace("-", "_"): value}).manifest


def make_draft(manifest: Manifest, root: Path, template: str) -> Draft:
    path = write_manifest(split_manifest(manifest, folds=2, seed=0), root.parent / "manifest.json")
    return Draft("fresh", root.parent / "bundles/fresh", read_dataset(path, root), read_template(template))


def require_own_values(draft: Draft, root: Path, classes: int) -> None:
    """Load every case as training does, save the labels as inference does, and compare the files."""
    configs = render_configs(draft)
    path, out = draft.dataset.path, root.parent / "out"
    train = ConfigParser(configs["train.json"] | {"manifest": str(path)})
    load = list_loading(train)
    (save,) = ConfigParser(configs["inference.json"] | {"output_dir": str(out)}).get_parsed_content("save")
    seen = set()
    for item in load_datalist(path, root, "all"):
        loaded = dict(item)
        for transform in load:
            loaded = transform(loaded)
        seen |= set(loaded["label"].unique().tolist())
        save({"pred": MetaTensor(loaded["label"], meta=loaded["image"].meta), "case_id": item["case_id"]})
        (written,) = out.glob(f"{item['case_id']}_pred.*")
        before, after = (read_mask(file) for file in (Path(item["label"][0]), written))
        np.testing.assert_array_equal(after, before)
    assert seen == set(range(classes))


def list_loading(train: ConfigParser) -> list[Any]:
    """Return the transforms up to the one that makes label ids of the masks."""
    chain = train.get_parsed_content("train#deterministic_transforms")
    return list(chain[: [type(step).__name__ for step in chain].index("EncodeMaskd") + 1])


def read_mask(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj) if path.name.endswith(".gz") else np.asarray(Image.open(path))


@pytest.mark.parametrize(
    ("layout", "values", "labels"),
    [
        ("folders", HEART, {}),
        ("folders", (0, 1, 2, 4), {}),
        ("folders", (0, 255), {}),
        ("decathlon", HEART, {}),
        ("nnunet", HEART, {"background": 0, **{f"part {value}": value for value in HEART[1:]}}),
        ("nnunet", (0, 1, 2, 4), {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 4}),
    ],
)
def test_predictions_hold_the_masks_own_values(layout: str, values: Any, labels: Any, tmp_path: Path) -> None:
    root = tmp_path / "data"
    if layout == "nnunet":
        write_nnunet(root, values, labels)
    else:
        (write_folders if layout == "folders" else write_decathlon)(root, values)
    manifest = follow(layout, root)
    assert dict(manifest.mask_values) == {value: label for label, value in enumerate(values)}
    assert list(manifest.labels) == list(range(len(values)))
    assert not check_manifest(manifest, root, level="deep").errors()
    draft = make_draft(manifest, root, "volumes")
    require_own_values(draft, root, len(values))
    configs = render_configs(draft)
    assert configs["inference.json"]["label_values"] == list(values)
    told = ", ".join(f"{value} {manifest.labels[label]}" for label, value in enumerate(values))
    assert f"* **Predicted masks** hold these values: {told}." in write_card(draft, configs, None, [])
    assert f"predictions: {told}" in list_notes(draft, configs["train.json"])


def test_consecutive_values_need_no_setting(tmp_path: Path) -> None:
    write_folders(tmp_path / "data", (0, 1, 2))
    draft = make_draft(read_layout("folders", tmp_path / "data").manifest, tmp_path / "data", "volumes")
    assert "label_values" not in render_configs(draft)["inference.json"]
    require_own_values(draft, tmp_path / "data", 3)


@pytest.mark.parametrize("template", ["pictures", "stacks"])
def test_pictures_keep_values_of_16_bits(template: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(4):
        mask = np.zeros((64, 80), np.uint16)
        mask[10:30, 10 + number : 30], mask[35:50, 20:60] = 205, 850
        Image.fromarray((mask // 4).astype(np.uint8)).save(root / f"images/p{number}.png")
        Image.fromarray(mask).save(root / f"masks/p{number}.png")
    draft = make_draft(follow("folders", root), root, template)
    inference = render_configs(draft)["inference.json"]
    assert inference["label_values"] == [0, 205, 850]
    if template == "pictures":
        train = ConfigParser(render_configs(draft)["train.json"] | {"manifest": str(draft.dataset.path)})
        load = list_loading(train)
        (save,) = ConfigParser(inference | {"output_dir": str(tmp_path / "out")}).get_parsed_content("save")
        for item in load_datalist(draft.dataset.path, root, "all"):
            loaded = dict(item)
            for transform in load:
                loaded = transform(loaded)
            save({"pred": MetaTensor(loaded["label"], meta=loaded["image"].meta)})
            written = tmp_path / f"out/{item['case_id']}_pred.png"
            np.testing.assert_array_equal(read_mask(written), read_mask(Path(item["label"][0])))


def test_a_stray_value_is_named_with_its_file(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_folders(root, HEART)
    path = root / "labels/ct_2.nii.gz"
    voxels = np.array(nib.load(path).dataobj)
    voxels[0, 0, :3] = 421
    nib.save(nib.Nifti1Image(voxels, nib.load(path).affine), path)
    text = tell(lambda: read_layout("folders", root))
    assert text.endswith("; only labels/ct_2.nii.gz holds 421 (3 voxels)")
    values = ",".join(map(str, HEART))
    assert "labels/ct_2.nii.gz [ct_2]: holds 421 (3 pixels)" in tell(
        lambda: read_layout("folders", root, mask_values=values)
    )
    # A manifest written by hand is not checked until it is used.
    manifest = read_layout("folders", root, mask_values=f"{values},421").manifest
    manifest = replace(manifest, **parse_mask_values(values))
    (issue,) = check_manifest(manifest, root, level="deep").errors()
    assert (issue.code, issue.path) == ("label-values", "labels/ct_2.nii.gz")
    assert "holds 421 (3 pixels), the manifest allows 0, 205, 420" in issue.message
    written = write_manifest(manifest, tmp_path / "manifest.json")
    assert "labels/ct_2.nii.gz [ct_2]: holds 421 (3 pixels)" in tell(lambda: load_datalist(written, root, "all"))


def test_an_ignored_value_is_refused_and_the_hint_works(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_nnunet(root, (0, 1, 2), {"background": 0, "ignore": 1, "big tumour": 2})
    manifest = read_layout("nnunet", root).manifest
    assert (manifest.ignore_index, dict(manifest.mask_values)) == (1, {0: 0, 2: 1})
    assert manifest.labels == {0: "background", 1: "big tumour"}
    # Ignored voxels are neither background nor foreground.
    assert [case.facts["foreground"] for case in manifest.cases] == [2 * (11 - index) * 11 for index in range(4)]
    text = tell(lambda: make_draft(manifest, root, "volumes"))
    assert "the value 1 of the masks is ignore_index, but no loss of a bundle ignores pixels" in text
    (option, value, *_) = shlex.split(text[text.index("--labels") :].replace(", or remove", " or remove"))
    assert option == "--labels"
    again = read_layout("nnunet", root, labels=value).manifest
    assert again.labels == {0: "background", 1: "unsure", 2: "big tumour"}
    require_own_values(make_draft(again, root, "volumes"), root, 3)


def test_regions_are_refused_and_the_hint_works(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_nnunet(root, (0, 1, 2, 3), {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3})
    text = tell(lambda: read_layout("nnunet", root))
    assert "'whole' is a region of several labels ([1, 2, 3]), which overlap" in text
    assert text.endswith("--labels 0=background,1=...,2=...")
    manifest = read_layout("nnunet", root, labels="0=background,1=edema,2=core,3=enhancing").manifest
    require_own_values(make_draft(manifest, root, "volumes"), root, 4)


def test_two_names_of_one_value_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_nnunet(root, (0, 1), {"background": 0, "a": 1, "b": 1})
    assert "the label 1 has two names, 'a' and 'b'" in tell(lambda: read_layout("nnunet", root))


def test_masks_of_colours_by_palette_and_pictures_of_three_channels(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    for number in range(4):
        mask = np.zeros((64, 80), np.uint8)
        mask[10:30, 10 + number : 30], mask[35:50, 20:60] = 1, 2
        picture = np.repeat(mask[..., None] * 100, 3, axis=-1)
        Image.fromarray(picture).save(root / f"imagesTr/c{number}_0000.png")
        coloured = Image.fromarray(mask)
        coloured.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        coloured.save(root / f"labelsTr/c{number}.png")
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "tumour": 1, "stroma": 2},
        "numTraining": 4,
        "file_ending": ".png",
    }
    (root / "dataset.json").write_text(json.dumps(description))
    manifest = read_layout("nnunet", root).manifest
    assert not check_manifest(manifest, root, level="deep").errors()
    draft = make_draft(manifest, root, "pictures")
    train = ConfigParser(render_configs(draft)["train.json"] | {"manifest": str(draft.dataset.path)})
    for item in load_datalist(draft.dataset.path, root, "all"):
        loaded = dict(item)
        for transform in train.get_parsed_content("train#deterministic_transforms")[:3]:
            loaded = transform(loaded)
        assert loaded["image"].shape == (3, 64, 80)
        np.testing.assert_array_equal(loaded["image"].numpy(), np.repeat(loaded["label"].numpy() * 100, 3, axis=0))
        assert loaded["label"].unique().tolist() == [0, 1, 2]


def test_gaps_of_an_older_manifest_are_refused_and_the_hint_works(tmp_path: Path) -> None:
    from dataclasses import replace

    root = tmp_path / "data"
    write_nnunet(root, (0, 1, 4), {"background": 0, "necrosis": 1, "enhancing": 4})
    manifest = read_layout("nnunet", root).manifest
    old = replace(manifest, labels={0: "background", 1: "necrosis", 4: "enhancing"}, mask_values={0: 0, 1: 1, 4: 4})
    text = tell(lambda: make_draft(old, root, "volumes"))
    assert "got 0 background, 1 necrosis, 4 enhancing; build the manifest again: pipeline dataset build numbers" in text
    assert make_draft(manifest, root, "volumes").dataset.labels == ("background", "necrosis", "enhancing")
