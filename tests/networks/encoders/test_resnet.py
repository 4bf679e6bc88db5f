"""ResNet encoders: torchvision's names and numbers, the pyramid, depth."""

import pytest
import torch

from pipeline.networks import make_encoder


@pytest.mark.parametrize(
    ("name", "total", "classifier"),
    # torchvision's num_params, and its fc of 1000 classes
    [
        ("resnet18", 11_689_512, 512 * 1000 + 1000),
        ("resnet34", 21_797_672, 512 * 1000 + 1000),
        ("resnet50", 25_557_032, 2048 * 1000 + 1000),
    ],
)
def test_parameters_as_in_torchvision(name, total, classifier):
    with torch.device("meta"):
        encoder = make_encoder(name)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == total - classifier


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet18", (64, 64, 128, 256, 512)), ("resnet50", (64, 256, 512, 1024, 2048))]
)
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_pyramid(name, channels, depth):
    encoder = make_encoder(name, in_channels=2, depth=depth)
    pyramid = encoder(torch.zeros(1, 2, 64, 96))
    assert encoder.channels == channels[:depth]
    assert [level.shape for level in pyramid] == [
        (1, channels[k], 64 // 2 ** (k + 1), 96 // 2 ** (k + 1)) for k in range(depth)
    ]
