"""Weights files of a small ResNet-18, as the different sources write them."""

import pytest
import torch

from pipeline.networks import make_encoder


@pytest.fixture(scope="session")
def state():
    """Return tensors under torchvision's names: BatchNorm has seen data, and of layer3 on there are only traces."""
    generator = torch.Generator().manual_seed(0)
    tensors = {key: value.clone() for key, value in make_encoder("resnet18", depth=3).state_dict().items()}
    for key, value in tensors.items():
        if key.endswith(("running_mean", "bias")):
            tensors[key] = torch.randn(value.shape, generator=generator) * 0.1
        elif key.endswith("running_var"):
            tensors[key] = torch.rand(value.shape, generator=generator) + 0.5
    tensors["layer3.0.conv1.weight"], tensors["layer4.0.bn1.weight"] = torch.zeros(256, 128, 3, 3), torch.ones(512)
    tensors["fc.weight"], tensors["fc.bias"] = torch.zeros(10, 512), torch.zeros(10)
    return tensors


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file and returns its path."""

    def write_file(content, name="weights.pth"):
        path = tmp_path / name
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(content, path)
        else:
            torch.save(content, path)
        return path

    return write_file
