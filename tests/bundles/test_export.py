"""The exports of the model cards: TorchScript and ONNX models that compute what the bundle's network computes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import fire
import monai.bundle
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from tests.bundles.conftest import FAMILIES, read_json
from tests.bundles.test_cards import list_exports, read_card

QUICK = FAMILIES
# Of values of about 1; float32, summed in another order.
TOLERANCE = 1e-4


def shrink(bundle: Path) -> dict[str, Any]:
    """Return the network of the bundle's phantom as options, for which exports take seconds."""
    phantom = read_json(bundle / "configs/phantom.json")
    return {name: value for name, value in phantom.items() if name.startswith("network_def")}


@pytest.fixture
def exported(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A network with random weights in a checkpoint, an input, its output, and how a card's command is typed for it."""
    monkeypatch.chdir(tmp_path)
    config = ConfigParser()
    config.read_config(str(bundle / "configs/inference.json"))
    for name, value in shrink(bundle).items():
        config[name] = value
    torch.manual_seed(0)
    network = config.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), "weights.pt")
    (tensor,) = read_json(bundle / "configs/metadata.json")["network_data_format"]["inputs"].values()
    image = torch.randn(1, tensor["num_channels"], *tensor["spatial_shape"])
    with torch.no_grad():
        return {"image": image, "expected": network(image), "changes": shrink(bundle)}


def type_export(bundle: Path, kind: str, changes: dict[str, Any]) -> None:
    """Run a card's command with a small network, in this process."""
    (words,) = (words for words in list_exports(read_card(bundle)) if words[0] == kind)
    options = dict(zip(words[2::2], words[3::2], strict=True))
    options |= {"--ckpt_file": "weights.pt", "--filepath": options["--filepath"].rpartition("/")[2]}
    options |= {name: str(bundle.parents[1] / options[name]) for name in ("--config_file", "--meta_file")}
    options |= {f"--{name}": json.dumps(value) for name, value in changes.items()}
    line = [kind, words[1], *(word for option in options.items() for word in option)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fire.Fire({kind: getattr(monai.bundle, kind)}, line)


def test_torchscript_computes_the_same(bundle: Path, exported: dict[str, Any]) -> None:
    type_export(bundle, "ckpt_export", exported["changes"])
    script = torch.jit.load("model.ts").eval()
    with torch.no_grad():
        np.testing.assert_allclose(script(exported["image"]), exported["expected"], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
def test_onnx_computes_the_same(bundle: Path, exported: dict[str, Any]) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    type_export(bundle, "onnx_export", exported["changes"])
    session = runtime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: exported["image"].numpy()})
    np.testing.assert_allclose(result, exported["expected"], atol=TOLERANCE, rtol=TOLERANCE)
