import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.networks.transunet.stem import Bottleneck, ResNetV2Stem, StdConv2d


def test_weights_are_standardised_per_output_channel() -> None:
    torch.manual_seed(0)
    convolution = StdConv2d(3, 4, kernel_size=3, stride=2, padding=1, bias=True)
    image = torch.randn(2, 3, 9, 7)
    rows = convolution.weight.detach().double().flatten(1)
    mean = rows.sum(1, keepdim=True) / 27
    variance = ((rows - mean) ** 2).sum(1, keepdim=True) / 27
    weight = ((rows - mean) / (variance + 1e-5).sqrt()).reshape(4, 3, 3, 3)
    patches = F.unfold(image.double(), kernel_size=3, stride=2, padding=1)
    expected = (weight.flatten(1) @ patches).reshape(2, 4, 5, 4) + convolution.bias.double().reshape(1, 4, 1, 1)
    torch.testing.assert_close(convolution(image).double(), expected, atol=1e-5, rtol=1e-5)


def test_unit_is_what_the_reference_computes() -> None:
    """relu(shortcut + gn3(conv3(...))): the norms after the convolutions."""
    torch.manual_seed(0)
    unit = Bottleneck(8, 32, 64, stride=2)
    for parameter in unit.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 8, 6, 6)
    y = F.relu(F.group_norm(unit.conv1(x), 32, unit.gn1.weight, unit.gn1.bias, eps=1e-6))
    y = F.relu(F.group_norm(unit.conv2(y), 32, unit.gn2.weight, unit.gn2.bias, eps=1e-6))
    y = F.group_norm(unit.conv3(y), 32, unit.gn3.weight, unit.gn3.bias, eps=1e-6)
    projection = unit.shortcut.gn_proj
    shortcut = F.instance_norm(unit.shortcut.conv_proj(x), weight=projection.weight, bias=projection.bias, eps=1e-5)
    torch.testing.assert_close(unit(x), F.relu(shortcut + y))


def test_unit_of_equal_shape_has_no_projection() -> None:
    assert isinstance(Bottleneck(128, 32, 128).shortcut, nn.Identity)


@pytest.mark.slow
def test_epsilons_of_the_reference() -> None:
    norms = {name: norm for name, norm in ResNetV2Stem(width=32).named_modules() if isinstance(norm, nn.GroupNorm)}
    assert len(norms) == 1 + 3 * 16 + 3  # root, three a unit, three projections
    for name, norm in norms.items():
        expected = (norm.num_channels, 1e-5) if name.endswith("gn_proj") else (32, 1e-6)
        assert (norm.num_groups, norm.eps) == expected, name


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (48, 96)])
def test_maps_double_and_the_pooled_one_ends_with_zeros(rows: int, columns: int) -> None:
    stem = ResNetV2Stem(block_units=(1, 1, 1), width=32)
    deepest, skips = stem(torch.randn(1, 3, rows, columns))
    assert deepest.shape == (1, 512, rows // 16, columns // 16)
    sizes = [(256, 8), (128, 4), (32, 2)]
    assert [skip.shape for skip in skips] == [(1, n, rows // by, columns // by) for n, by in sizes]
    quarter = skips[1]
    assert not quarter[:, :, -1].any()
    assert not quarter[:, :, :, -1].any()
    assert quarter[:, :, :-1, :-1].any(1).all()
