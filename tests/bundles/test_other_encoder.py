"""Bundles with another encoder or network: isic_unetpp, with its own normalisation each, and braintumor_unet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run
from PIL import Image

from tests.bundles.conftest import ROOT, read_json
from tests.bundles.running import EXACT, configs

BUNDLE = ROOT / "bundles/isic_unetpp"
WORKFLOWS = {
    "train": (("train.json",), "validate#preprocessing"),
    "evaluate": (("train.json", "evaluate.json"), "validate#preprocessing"),
    "inference": (("inference.json",), "preprocessing"),
}
SMALL = ("resnet34.json", "phantom.json")
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
#: Overrides, encoder, mean and deviation of its photographs, million parameters
ENCODERS = (
    ((), "efficientnet-lite0", ((127.5,) * 3, (127.5,) * 3), 3.97),
    (("resnet34.json",), "resnet34", IMAGENET, 26.08),
)


def list_files(workflow: str, *more: str) -> list[str]:
    return configs(BUNDLE, *WORKFLOWS[workflow][0], *more)


@pytest.mark.parametrize("workflow", WORKFLOWS)
@pytest.mark.parametrize(("overrides", "encoder", "normalisation", "millions"), ENCODERS, ids=["default", "resnet34"])
def test_the_network_gets_what_its_weights_expect(
    overrides: tuple[str, ...], encoder: str, normalisation: Any, millions: float, workflow: str, tmp_path: Path
) -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, :16] = (255, 51, 204)
    Image.fromarray(picture).save(tmp_path / "image.png")
    Image.fromarray(picture[..., 0]).save(tmp_path / "label.png")
    parser = ConfigParser()
    parser.read_config(list_files(workflow, *overrides))
    parser.config.update({"bundle_root": str(BUNDLE), "image_size": [32, 32]})
    transform = parser.get_parsed_content(WORKFLOWS[workflow][1])
    image = transform({"image": str(tmp_path / "image.png"), "label": str(tmp_path / "label.png")})["image"]
    mean, deviation = torch.tensor(normalisation)
    expected = (torch.tensor([[255.0, 0.0], [51.0, 0.0], [204.0, 0.0]]) - mean[:, None]) / deviation[:, None]
    torch.testing.assert_close(image.as_tensor()[:, 16, [0, -1]], expected)
    network = parser.get_parsed_content("network_def")
    assert network.encoder.name == encoder
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(millions * 1e6, rel=2e-3)


def test_the_recipe_of_the_origin_takes_the_resnet34() -> None:
    values, origin = (read_json(BUNDLE / "configs" / name) for name in ("resnet34.json", "origin.json"))
    del values["_desc_"]
    assert {key: origin[key] for key in values} == values


def test_it_trains_scores_and_predicts(write_data: Callable[[Path], dict[str, str]], tmp_path: Path) -> None:
    data = write_data(BUNDLE)
    options = {"bundle_root": str(BUNDLE), **EXACT}
    weights = str(tmp_path / "run/model.pt")
    run(config_file=list_files("train", *SMALL), **options, **data, output_dir=str(tmp_path / "run"), max_epochs=1)
    scores = {"checkpoint": weights, "output_dir": str(tmp_path / "scores")}
    run(config_file=list_files("evaluate", *SMALL), **options, **data, **scores)
    assert (tmp_path / "scores/metrics.csv").is_file()
    images = str(Path(data["dataset_dir"]) / "ISIC2018_Task1-2_Test_Input")
    masks = {"input": images, "checkpoint": weights, "output_dir": str(tmp_path / "masks")}
    run(config_file=list_files("inference", *SMALL), **options, **masks)
    assert list((tmp_path / "masks").glob("*_pred.png"))


def test_braintumor_unet_trains_and_scores_with_the_network_that_it_had(
    write_data: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    bundle = ROOT / "bundles/braintumor_unet"
    data = write_data(bundle)
    options = {
        "bundle_root": str(bundle),
        **EXACT,
        "image_size": [32, 32],
        "network_def#features": [4, 4, 8, 8, 16, 4],
    }
    files = configs(bundle, "train.json", "basicunet.json")
    run(config_file=files, **options, **data, output_dir=str(tmp_path / "run"), max_epochs=1)
    weights = torch.load(tmp_path / "run/model.pt", weights_only=True)
    assert not any(key.startswith("encoder.") for key in weights)
    files = configs(bundle, "train.json", "evaluate.json", "basicunet.json")
    scores = {"checkpoint": str(tmp_path / "run/model.pt"), "output_dir": str(tmp_path / "scores")}
    run(config_file=files, **options, **data, **scores)
    assert (tmp_path / "scores/metrics.csv").is_file()
