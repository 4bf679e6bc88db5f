"""Bundles whose networks mark what is bright: the suite's own inference.json with a convolution of one pixel."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
Command = Callable[..., tuple[int, str, str]]


def make_bundle(folder: Path, name: str, channels: int, outputs: int, bias: float, dims: int = 2) -> Path:
    """Copy a bundle and give it a network that adds up its input channels, times 20 or 2, and ``bias``."""
    bundle = folder / name
    (bundle / "configs").mkdir(parents=True)
    for config in ("inference.json", "metadata.json", "tta.json"):
        shutil.copyfile(ROOT / "bundles" / name / "configs" / config, bundle / "configs" / config)
    path = bundle / "configs/inference.json"
    config = json.loads(path.read_text())
    config["network_def"] = {
        "_target_": f"torch.nn.Conv{dims}d",
        "in_channels": channels,
        "out_channels": outputs,
        "kernel_size": 1,
    }
    config["device"] = "$torch.device('cpu')"
    path.write_text(json.dumps(config))
    network = (torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d)(channels, outputs, 1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.fill_(-50.0)  # type: ignore[union-attr]
        if outputs == 1:
            network.weight.fill_(20.0)
            network.bias.fill_(bias)  # type: ignore[union-attr]
        else:  # label 2 is what is bright
            network.weight[2] = 2.0
            network.bias[0], network.bias[2] = 0.0, bias  # type: ignore[index]
    (bundle / "models").mkdir()
    torch.save(network.state_dict(), bundle / "models/model.pt")
    return bundle


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle for colour photographs."""
    return make_bundle(tmp_path_factory.mktemp("bundles"), "isic_unet", 3, 1, 0.0)


@pytest.fixture(scope="session")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle for stacks of slices."""
    return make_bundle(tmp_path_factory.mktemp("bundles"), "lgg_unet", 9, 1, -200.0)


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle for volumes with two labels."""
    return make_bundle(tmp_path_factory.mktemp("bundles"), "hippocampus_segresnet", 1, 3, -4.0, dims=3)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs ``pipeline predict`` and returns its exit code, stdout and stderr."""
    from pipeline.commands.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(["predict", *map(str, words)])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run
