"""The chains of every bundle as clients run them: without our loaders (MONAI Deploy), without our savers (both)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, LoadImaged, SaveImaged

from tests.bundles.conftest import write_phantom


def list_steps(value: Any) -> list[list[dict[str, Any]]]:
    """Return all lists of transforms of a config."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [steps for child in children for steps in list_steps(child)]
    return [*found, value] if isinstance(value, list) and any(isinstance(step, dict) for step in value) else found


def test_channels_come_first_after_the_loader(bundle: Path) -> None:
    number = 0
    for path in (bundle / "configs").glob("*.json"):
        for steps in list_steps(json.loads(path.read_text(encoding="utf-8"))):
            for step, following in zip(steps, [*steps[1:], {}], strict=True):
                if isinstance(step, dict) and step.get("_target_") == "LoadImaged":
                    number += 1
                    assert "ensure_channel_first" not in step, path
                    assert following == {"_target_": "EnsureChannelFirstd", "keys": step["keys"]}, path
    assert number or bundle.name.startswith("lgg")


def read_inference(bundle: Path, input: str, output_dir: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(bundle / "configs/inference.json")
    parser.update({"bundle_root": str(bundle), "input": input, "output_dir": str(output_dir)})
    return parser


def get_compose(parser: ConfigParser, name: str) -> Compose:
    compose = parser.get_parsed_content(name)
    assert isinstance(compose, Compose)
    return compose


def drop_as_deploy(compose: Compose, *names: str) -> list[Any]:
    return [step for step in compose.transforms if not any(name in type(step).__name__ for name in names)]


def test_clients_know_loaders_and_savers(bundle: Path, tmp_path: Path) -> None:
    parser = read_inference(bundle, str(tmp_path), tmp_path / "out")
    before, after = get_compose(parser, "preprocessing"), get_compose(parser, "postprocessing")
    assert len(drop_as_deploy(before, "LoadImage", "SaveImage")) == len(before.transforms) - 1
    kept = drop_as_deploy(after, "LoadImage", "SaveImage")
    assert len(kept) == len(after.transforms) - 1
    assert kept == [step for step in after.transforms if not isinstance(step, SaveImaged)]


@pytest.mark.one_per_family
def test_label_maps_come_out_on_the_images_grid(bundle: Path, tmp_path: Path) -> None:
    from pipeline.datasets import load_datalist

    knobs = write_phantom(bundle, tmp_path / "data")
    item = load_datalist(knobs["manifest"], knobs["dataset_dir"], "all")[0]
    parser = read_inference(bundle, knobs["dataset_dir"], tmp_path / "out")
    before, after = get_compose(parser, "preprocessing"), get_compose(parser, "postprocessing")
    for step in before.transforms:  # as MONAI Label does
        if isinstance(step, LoadImaged):
            step._loader.image_only = False
    classes = parser.get("network_def").get("out_channels", 1)
    data = list_data_collate([before({"image": item["image"]})])
    noise = torch.randn((1, classes, *data["image"].shape[2:]), generator=torch.Generator().manual_seed(0))
    data["pred"] = data["image"][:, :1] * 0 + noise
    (case,) = decollate_batch(data)
    case = Compose([step for step in after.transforms if not isinstance(step, SaveImaged)])(case)
    image, pred = case["image"], case["pred"]
    assert isinstance(pred, MetaTensor)
    grid = tuple(int(size) for size in image.meta["spatial_shape"])
    assert tuple(pred.shape) == (1, *grid)
    assert set(pred.unique().tolist()) <= set(map(float, range(max(classes, 2)))) or bundle.name == "u373_unet"
    origin = image.meta.get("original_affine", torch.eye(4))  # pictures have none
    torch.testing.assert_close(pred.affine, torch.as_tensor(origin, dtype=pred.affine.dtype))
    assert not (tmp_path / "out").exists()
