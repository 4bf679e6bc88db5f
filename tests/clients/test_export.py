"""``ckpt_export`` and ``onnx_export``: the exported network computes what the network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export

from tests.bundles.conftest import read_json
from tests.clients.copies import build_network, digest, load_weights


@pytest.fixture(scope="module")
def image(whole: Path) -> torch.Tensor:
    meta = read_json(whole / "configs/metadata.json")["network_data_format"]["inputs"]["image"]
    return torch.randn(1, meta["num_channels"], *meta["spatial_shape"], generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def expected(whole: Path, image: torch.Tensor) -> torch.Tensor:
    network = build_network(whole)
    network.load_state_dict(load_weights(whole / "models/model.pt"))
    with torch.no_grad():
        result: torch.Tensor = network(image)
    return result


def export(tool: object, bundle: Path, target: Path) -> Path:
    before = digest(bundle)
    assert callable(tool)
    tool(
        "network_def",
        filepath=str(target),
        ckpt_file=str(bundle / "models/model.pt"),
        meta_file=str(bundle / "configs/metadata.json"),
        config_file=str(bundle / "configs/inference.json"),
    )
    assert digest(bundle) == before
    return target


def test_torchscript(whole: Path, image: torch.Tensor, expected: torch.Tensor, tmp_path: Path) -> None:
    network = torch.jit.load(export(ckpt_export, whole, tmp_path / "model.ts"))
    with torch.no_grad():
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-4)


def test_onnx(whole: Path, image: torch.Tensor, expected: torch.Tensor, tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(str(export(onnx_export, whole, tmp_path / "model.onnx")))
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-3)
