"""Bundles made from others train, evaluate and predict with plain MONAI: a small network, a few small images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import run
from PIL import Image

from pipeline.bundle.dataset import UserDataset, read_dataset
from pipeline.bundle.new import create_bundle
from pipeline.bundle.recipe import read_source, read_template
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.datasets.probes import probe_image
from pipeline.reports.run_summary import read_scores
from tests.bundle.conftest import BUNDLES, build, join_stacks, read_json, write_pictures
from tests.bundles.running import read_scalars
from tests.cached_items import find_rot, find_writers, read_training

QUICK: dict[str, Any] = {"logging_file": False, "amp": False}


@pytest.fixture
def stacks(colour: UserDataset, tmp_path: Path) -> UserDataset:
    """Two stacks of three slices with two labels."""
    return read_dataset(write_manifest(join_stacks(colour).manifest, tmp_path / "stacks.json"), colour.folder)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, an empty one; bundles made in it are found as documented."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(source: str, dataset: UserDataset) -> str:
    """Make a bundle; returns its folder of configs."""
    create_bundle("mine", read_source(BUNDLES / source), dataset, Path("bundles"), rehearse=False)
    return "bundles/mine/configs"


def train(configs: str, **knobs: Any) -> dict[str, Any]:
    run(config_file=[f"{configs}/train.json", f"{configs}/phantom.json"], max_epochs=2, **QUICK, **knobs)
    scalars = read_scalars(Path("output/mine"))
    assert all(math.isfinite(loss) for _, loss in scalars["train_loss"])
    return scalars


def evaluate(configs: str) -> None:
    files = [f"{configs}/{name}.json" for name in ("train", "evaluate", "phantom")]
    run(config_file=files, checkpoint="output/mine/model.pt", **QUICK)


def switch_on(configs: str) -> dict[str, bool]:
    """Return settings that switch every step of post-processing on."""
    names = [name for file in ("inference", "refine") for name in read_json(Path(configs) / f"{file}.json")]
    return {name: False for name in names if name.startswith("skip_")}


def predict(configs: str, *overrides: str, **knobs: Any) -> Path:
    files = [f"{configs}/{name}.json" for name in ("inference", "phantom", *overrides)]
    run(config_file=files, **{"checkpoint": "output/mine/model.pt", **QUICK, **knobs})
    return Path("output/mine/predictions")


@pytest.fixture
def objects(tmp_path: Path) -> UserDataset:
    """Grey pictures with one numbered object each."""
    folder = write_pictures(tmp_path / "objects", values=(0, 1), side=200)
    return read_dataset(build(folder, change={"mask_type": "instance", "mask_values": {}}), folder)


each_template = pytest.mark.parametrize(
    ("template", "data"), [("pictures", "grey"), ("stacks", "stacks"), ("volumes", "volumes"), ("objects", "objects")]
)


def make_from_template(template: str, dataset: UserDataset) -> str:
    """Make a bundle; returns its folder of configs."""
    create_bundle("mine", read_template(template), dataset, Path("bundles"), rehearse=False)
    return "bundles/mine/configs"


@each_template
def test_a_template_trains_with_its_phantom(
    template: str, data: str, place: Path, request: pytest.FixtureRequest
) -> None:
    configs = make_from_template(template, request.getfixturevalue(data))
    run(config_file=[f"{configs}/train.json", f"{configs}/phantom.json"], max_epochs=1, **QUICK)
    losses = read_scalars(Path("output/mine"))["train_loss"]
    assert losses
    assert all(math.isfinite(loss) for _, loss in losses)


@pytest.mark.slow  # tests/bundles/test_cache.py has the same steps
@each_template
def test_training_with_a_template_leaves_the_cache_as_it_is(
    template: str, data: str, place: Path, request: pytest.FixtureRequest
) -> None:
    make_from_template(template, request.getfixturevalue(data))
    assert find_rot(read_training(Path("bundles/mine"), {}), epochs=200) == []
    assert find_writers(read_training(Path("bundles/mine"), {})) == {}


def test_pictures_with_two_labels_from_stacks_with_one(colour: UserDataset, place: Path) -> None:
    configs = make("lgg_attunet", colour)
    scalars = train(configs)
    assert len(scalars["dice_case"]) == 2
    assert {"dice_cyst", "dice_nodule"} <= set(scalars)
    evaluate(configs)
    scores = read_scores(Path("output/mine/evaluate/dice_case_raw.csv"))
    assert set(scores) == {case.case_id for case in colour.parts["val"]}
    folder = predict(configs, overlay=True) / "images"
    assert colour.folder is not None
    for path in sorted(colour.folder.glob("images/*.png")):
        mask = np.asarray(Image.open(folder / f"{path.stem}_pred.png"))
        assert mask.shape == np.asarray(Image.open(path)).shape[:2]
        assert set(np.unique(mask)) <= {0, 1, 2}
        assert (folder / f"{path.stem}_overlay.png").is_file()


def test_stacks_with_two_labels_from_stacks_with_one(stacks: UserDataset, place: Path) -> None:
    configs = make("lgg_attunet", stacks)
    train(configs)
    folder = predict(configs, "refine", opening_radius=1, **switch_on(configs))
    written = sorted(path for path in folder.rglob("*_pred.png"))
    assert [path.name for path in written] == [f"scan_{index}_pred.png" for index in range(6)]
    assert all(set(np.unique(np.asarray(Image.open(path)))) <= {0, 1, 2} for path in written)


def test_grey_pictures_from_colour(grey: UserDataset, place: Path) -> None:
    configs = make("isic_unet", grey)
    scalars = train(configs)
    assert len(scalars["dice_image"]) == 2
    evaluate(configs)
    # The mean of two checkpoints, which are one here, and of mirrored copies.
    checkpoints = ["output/mine/model.pt"] * 2
    folder = predict(configs, "refine", "tta", "ensemble", checkpoints=checkpoints, **switch_on(configs))
    masks = [np.asarray(Image.open(path)) for path in folder.glob("*_pred.png")]
    assert len(masks) == 6
    assert all(set(np.unique(mask)) <= {0, 255} for mask in masks)


def test_volumes_with_one_label_from_two(volumes: UserDataset, place: Path) -> None:
    configs = make("hippocampus_segresnet", volumes)
    small = {"roi_size": [16, 16, 16]}
    scalars = train(configs, **small)
    assert {"dice_volume", "dice_organ"} <= set(scalars)
    steps = switch_on(configs)
    folder = predict(configs, "refine", **small, **steps, input=str(volumes.folder) + "/images/scan_0.nii.gz")
    assert volumes.folder is not None
    image, mask = (
        probe_image(path, decode=True, is_mask=True)
        for path in (volumes.folder / "images/scan_0.nii.gz", folder / "scan_0_pred.nii.gz")
    )
    assert (mask.shape, mask.affine) == (image.shape, image.affine)
    assert mask.content is not None
    assert set(mask.content.counts) <= {0, 1}


def test_the_network_learns(grey: UserDataset, place: Path) -> None:
    """A disc of 6 pixels is found after a few epochs, so images and masks lie on each other."""
    configs = make("lgg_attunet", grey)
    run(
        config_file=[f"{configs}/train.json", f"{configs}/phantom.json"],
        **{**QUICK, "max_epochs": 8, "val_interval": 8, "slices_per_case": 8, "batch_size": 8, "learning_rate": 0.01},
    )
    best = read_json(Path("output/mine/run.json"))["best"]["value"]
    assert best > 0.6
