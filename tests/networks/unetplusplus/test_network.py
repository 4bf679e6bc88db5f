"""UNet++: published parameter counts, sizes, deep supervision, pruning, export, wrong arguments."""

import pytest
import torch

from pipeline.networks import UNetPlusPlus

SMALL = (4, 8, 12, 16)


def count_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def make_image(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_parameters_of_the_papers_code():
    # UNet++ of Zhou et al. 2018, table 2: 9.04 M; their Keras code says 9,041,601: 3x3 convolutions with a bias, no
    # normalisation, 2x2 transposed convolutions, one channel in, one output in use
    assert count_parameters(UNetPlusPlus(2, 1, 1, norm=None)) == 9_041_601


@pytest.mark.parametrize(
    ("encoder", "parameters"),
    # resnet34: as segmentation-models-pytorch's UnetPlusPlus("resnet34", classes=1) is reported
    [("resnet34", 26_078_609), ("resnet18", 26_078_609 - 21_284_672 + 11_176_512)],
)
def test_parameters_with_a_named_encoder(encoder, parameters):
    with torch.device("meta"):
        assert count_parameters(UNetPlusPlus(2, 3, 1, encoder=encoder)) == parameters


@pytest.mark.parametrize("size", [(32, 32), (37, 50), (8, 8), (9, 64)])
def test_output_has_the_images_size(size):
    network = UNetPlusPlus(2, 2, 3, channels=SMALL)
    assert network.train()(make_image(2, 2, *size)).shape == (2, 3, *size)
    assert network.eval()(make_image(2, 2, *size)).shape == (2, 3, *size)


def test_three_dimensions():
    network = UNetPlusPlus(3, 1, 2, channels=SMALL[:3], deep_supervision=True, upsample="bilinear")
    assert [level.shape for level in network(make_image(2, 1, 8, 9, 11))] == [(2, 2, 8, 9, 11)] * 2
    assert network.eval()(make_image(1, 1, 8, 9, 11)).shape == (1, 2, 8, 9, 11)


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_named_encoder(depth):
    network = UNetPlusPlus(2, 1, 2, encoder="resnet18", encoder_depth=depth, deep_supervision=True)
    assert [level.shape for level in network(make_image(2, 1, 33, 40))] == [(2, 2, 33, 40)] * (depth - 1)
    assert network.eval()(make_image(2, 1, 33, 40)).shape == (2, 2, 33, 40)
