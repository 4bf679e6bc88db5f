"""`lite0.json` of isic_unetpp: another encoder with its own normalisation, the same in all three workflows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run
from PIL import Image

from tests.bundles.conftest import ROOT
from tests.bundles.running import EXACT, configs

BUNDLE = ROOT / "bundles/isic_unetpp"
WORKFLOWS = {
    "train": (("train.json",), "validate#preprocessing"),
    "evaluate": (("train.json", "evaluate.json"), "validate#preprocessing"),
    "inference": (("inference.json",), "preprocessing"),
}
SMALL = ("phantom.json", "lite0.json")


def list_files(workflow: str, *more: str) -> list[str]:
    return configs(BUNDLE, *WORKFLOWS[workflow][0], *more)


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_the_network_gets_what_its_weights_expect(workflow: str, tmp_path: Path) -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, :16] = (255, 51, 204)
    Image.fromarray(picture).save(tmp_path / "image.png")
    Image.fromarray(picture[..., 0]).save(tmp_path / "label.png")
    parser = ConfigParser()
    parser.read_config(list_files(workflow, "lite0.json"))
    parser.config.update({"bundle_root": str(BUNDLE), "image_size": [32, 32]})
    transform = parser.get_parsed_content(WORKFLOWS[workflow][1])
    image = transform({"image": str(tmp_path / "image.png"), "label": str(tmp_path / "label.png")})["image"]
    expected = torch.tensor([[1.0, -1.0], [51 / 127.5 - 1, -1.0], [204 / 127.5 - 1, -1.0]])
    torch.testing.assert_close(image.as_tensor()[:, 16, [0, -1]], expected)
    assert parser.get_parsed_content("network_def").encoder.name == "efficientnet-lite0"


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
