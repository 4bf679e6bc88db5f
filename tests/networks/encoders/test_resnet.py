"""ResNet encoders: torchvision's names and numbers, the pyramid, depth, and an independent implementation."""

import monai.networks.nets
import pytest
import torch

from pipeline.networks import make_encoder
from pipeline.networks.encoders import ResNetEncoder


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
@pytest.mark.parametrize("depth", [1, 2, 4, 5])
def test_pyramid(name, channels, depth):
    encoder = make_encoder(name, in_channels=2, depth=depth)
    sizes = [(1, channels[k], 64 >> k + 1, 96 >> k + 1) for k in range(depth)]
    assert encoder.channels == channels[:depth]
    assert encoder.strides == (2, 4, 8, 16, 32)[:depth]
    assert [level.shape for level in encoder(torch.zeros(1, 2, 64, 96))] == sizes
    assert [level.shape for level in encoder(torch.zeros(1, 2, 64, 96), levels=2)] == sizes[:2]


def test_layers_beyond_the_depth_are_not_built():
    tops = {key.split(".")[0] for key in make_encoder("resnet18", depth=3).state_dict()}
    assert tops == {"conv1", "bn1", "layer1", "layer2"}


@pytest.mark.parametrize(("name", "bottleneck"), [("resnet18", False), ("resnet50", True)])
def test_equals_monais_resnet(name, bottleneck):
    """MONAI's ResNet has torchvision's names too, so the same weights must give the same features."""
    ours = ResNetEncoder((2, 1, 2, 1), bottleneck=bottleneck).eval()
    block = "bottleneck" if bottleneck else "basic"
    theirs = monai.networks.nets.ResNet(
        block,
        [2, 1, 2, 1],
        [64, 128, 256, 512],
        spatial_dims=2,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=False,
    ).eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        last = ours(image)[-1]
        torch.testing.assert_close(last.mean(dim=(2, 3)), theirs(image))
    assert last.std() > 0


def test_weights_are_drawn_as_in_torchvision():
    torch.manual_seed(0)
    encoder = make_encoder("resnet18", depth=3)
    weight = encoder.layer2[0].conv2.weight  # fan-out: 128 channels of 3x3
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("depth", [0, 6])
@pytest.mark.parametrize("name", ["resnet34", "efficientnet-b0"])
def test_wrong_depth(name, depth):
    with pytest.raises(ValueError, match=f"must be from 1 to 5, got {depth}"):
        make_encoder(name, depth=depth)
