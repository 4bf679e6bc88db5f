"""``monai.bundle.load`` and MONAI's own checks of a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from monai.bundle import ConfigWorkflow, create_workflow, load

from tests.clients.copies import digest, load_weights, same_weights

WORKFLOWS = {"train": "train.json", "infer": "inference.json"}


def test_load_gives_the_network_with_its_weights(whole: Path) -> None:
    before = digest(whole)
    network = load(whole.name, bundle_dir=whole.parent, source="monaihosting", progress=False)
    assert isinstance(network, torch.nn.Module)
    assert same_weights(network.state_dict(), load_weights(whole / "models/model.pt"))
    assert digest(whole) == before


def test_a_bundle_without_weights_gives_its_network(whole: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(whole, tmp_path / whole.name, ignore=shutil.ignore_patterns("models"))
    workflow = create_workflow(
        config_file=str(bundle / "configs/inference.json"), workflow_type="infer", bundle_root=str(bundle)
    )
    workflow.network_def.load_state_dict(load_weights(whole / "models/model.pt"))


def test_monai_finds_the_properties_it_asks_for(small: Path, data: dict[str, str], image: Path) -> None:
    before = digest(small)
    for kind, knobs in (("train", data), ("infer", {"input": str(image)})):
        workflow = ConfigWorkflow(
            config_file=str(small / f"configs/{WORKFLOWS[kind]}"),
            workflow_type=kind,
            logging_file=False,
            bundle_root=str(small),
            **knobs,
        )
        workflow.initialize()
        assert not workflow.check_properties(), kind
    assert digest(small) == before
