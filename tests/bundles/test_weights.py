"""The weights that come with a bundle still compute what they did when they were released.

After releasing other weights, update the expected outputs: ``python -m tests.bundles.test_weights``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from pipeline.networks.unet2015 import next_input_size, valid_output_size
from tests.bundles.conftest import BUNDLES, read_json

EXPECTED = Path(__file__).parent / "saved_outputs"


def compute(bundle: Path) -> dict[str, Any]:
    """Run a bundle's network, in float32, on an image made of sines: no random numbers, whose streams may change."""
    config = ConfigParser(read_json(bundle / "configs/inference.json"))
    network = config.get_parsed_content("network_def").eval()
    weights = bundle / "models/model.pt"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    definition = config["network_def"]
    side = 64 if definition["spatial_dims"] == 2 else 32
    is_unpadded = "output_size" in config.config
    image = draw_waves(
        definition["in_channels"], definition["spatial_dims"], next_input_size(side) if is_unpadded else side
    )
    with torch.no_grad():
        output = network(image[None])
    assert output.shape[2:] == tuple(valid_output_size(n) if is_unpadded else n for n in image.shape[1:])
    sample = output[0, :, ::8, ::8] if image.ndim == 3 else output[0, :, ::8, ::8, ::8]
    return {
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "outputs": [round(value, 5) for value in sample.flatten().tolist()],
    }


def draw_waves(channels: int, dims: int, side: int) -> torch.Tensor:
    """Draw waves and a blob: ``(channels, side, side)``, or ``(channels, side, side, side)`` for 3 dimensions."""
    axis = torch.linspace(-3, 3, side)
    if dims == 2:
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        waves = [torch.sin((1 + 0.3 * c) * rows + c) * torch.cos((1 + 0.2 * c) * columns) for c in range(channels)]
        return torch.stack(waves) + 4 * torch.exp(-((rows - 0.5) ** 2 + (columns + 0.5) ** 2))
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    waves = [torch.sin((1 + 0.3 * c) * x + c) * torch.cos((1 + 0.2 * c) * y) * torch.cos(z) for c in range(channels)]
    return torch.stack(waves) + 4 * torch.exp(-((x - 0.5) ** 2 + (y + 0.5) ** 2 + z**2))


def test_saved_outputs(bundle: Path) -> None:
    if not (bundle / "models/model.pt").exists():
        pytest.skip("comes without weights")
    expected, found = read_json(EXPECTED / f"{bundle.name}.json"), compute(bundle)
    assert found["weights_sha256"] == expected["weights_sha256"], "other weights: update the expected outputs"
    outputs = torch.tensor(expected["outputs"])
    assert outputs.std() > 0.1, "outputs that hardly vary would prove nothing"
    torch.testing.assert_close(torch.tensor(found["outputs"]), outputs, rtol=1e-3, atol=2e-3)


if __name__ == "__main__":
    for folder in BUNDLES:
        if (folder / "models/model.pt").exists():
            EXPECTED.mkdir(exist_ok=True)
            target = EXPECTED / f"{folder.name}.json"
            target.write_text(json.dumps(compute(folder), indent=1) + "\n", encoding="utf-8")
