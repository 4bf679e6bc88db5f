"""UNet++: published parameter counts, sizes, deep supervision, pruning, export, wrong arguments."""

from itertools import pairwise

import pytest
import torch
from monai.networks.utils import convert_to_torchscript

from pipeline.issues import InputError
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


def test_each_node_is_fed_as_in_the_paper():
    """Work the grid of three levels out by hand."""
    network = UNetPlusPlus(2, 1, 1, channels=SMALL[:3]).eval()
    image = make_image(1, 1, 12, 8)
    x00, x10, x20 = network.encoder(image)
    nodes = network.nodes

    def compute(name, below, *row):
        return nodes[name].convolution(torch.cat([nodes[name].upsampling(below), *row], dim=1))

    x01 = compute("x_0_1", x10, x00)
    x11 = compute("x_1_1", x20, x10)
    x02 = compute("x_0_2", x11, x00, x01)
    torch.testing.assert_close(network(image), network.head(x02))
    assert list(nodes) == ["x_0_1", "x_1_1", "x_0_2"]


@pytest.mark.parametrize("arguments", [{"channels": SMALL}, {"encoder": "resnet18", "encoder_depth": 3}])
def test_deep_supervision_and_pruning(arguments):
    """Without normalisation training equals evaluation, so the outputs in training are what pruning gives."""
    settings = {"norm": None, "deep_supervision": True, "encoder_frozen_norm": True, **arguments}
    network = UNetPlusPlus(2, 1, 2, **settings)
    image = make_image(2, 1, 21, 26)
    outputs = network(image)
    assert len(outputs) == network.columns
    assert not any(torch.equal(one, other) for one, other in pairwise(outputs))
    for level in range(1, network.columns + 1):
        pruned = UNetPlusPlus(2, 1, 2, **settings, pruning_level=level).eval()
        pruned.load_state_dict(network.state_dict())
        torch.testing.assert_close(pruned(image), outputs[network.columns - level])
    torch.testing.assert_close(network.eval()(image), outputs[0])


@pytest.mark.parametrize("arguments", [{"channels": SMALL}, {"encoder": "resnet18", "encoder_depth": 4}])
@pytest.mark.parametrize(("level", "nodes"), [(1, 1), (2, 3), (3, 6)])
def test_pruning_leaves_out_what_it_does_not_need(arguments, level, nodes):
    network = UNetPlusPlus(2, 1, 1, deep_supervision=True, pruning_level=level, **arguments).eval()
    called = set()
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    network(make_image(1, 1, 32, 32))
    assert sum(name.count(".") == 1 and name.startswith("nodes.") for name in called) == nodes
    stages = network.encoder.list_stages()
    used = [any(module is network.get_submodule(name) for name in called for module in stage) for stage in stages]
    assert used == [k <= level for k in range(len(stages))]
    assert len(network.train()(make_image(2, 1, 32, 32))) == 3


def test_any_size_is_padded_with_its_border():
    network = UNetPlusPlus(2, 1, 1, channels=SMALL[:3]).eval()
    image = make_image(1, 1, 10, 7)
    padded = torch.nn.functional.pad(image, (0, 1, 0, 2), mode="replicate")
    torch.testing.assert_close(network(image), network(padded)[..., :10, :7])


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels": SMALL},
        {"channels": SMALL, "deep_supervision": True},
        {"encoder": "resnet18", "encoder_depth": 3},
        {"encoder": "resnet18", "encoder_depth": 3, "deep_supervision": "true"},
    ],
)
def test_every_parameter_gets_a_gradient(arguments):
    """DistributedDataParallel refuses a network of which a part is idle."""
    network = UNetPlusPlus(2, 1, 1, **arguments)
    outputs = network(make_image(2, 1, 16, 16))
    sum(output.mean() for output in (outputs if isinstance(outputs, list) else [outputs])).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"channels": SMALL},
        {"channels": SMALL, "deep_supervision": True, "pruning_level": 2},
        {"encoder": "resnet18", "encoder_depth": 3, "deep_supervision": True, "pruning_level": 1},
    ],
)
def test_torchscript(arguments, tmp_path):
    network = UNetPlusPlus(2, 1, 2, **arguments).eval()
    convert_to_torchscript(network).save(tmp_path / "model.ts")
    scripted = torch.jit.load(tmp_path / "model.ts")
    for size in [(16, 16), (21, 34)]:
        torch.testing.assert_close(scripted(make_image(1, 1, *size)), network(make_image(1, 1, *size)))
    assert isinstance(scripted.train()(make_image(2, 1, 16, 16)), torch.Tensor)
    with pytest.raises(torch.jit.Error, match="is too small for UNetPlusPlus"):
        scripted(make_image(1, 1, 3, 16))


def test_torchscript_in_three_dimensions():
    network = UNetPlusPlus(3, 1, 1, channels=SMALL[:3]).eval()
    image = make_image(1, 1, 5, 8, 9)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_layout_and_precision():
    network = UNetPlusPlus(2, 3, 1, encoder="resnet18", encoder_depth=3).eval()
    image = make_image(1, 3, 20, 28)
    exact = network(image)
    torch.testing.assert_close(network(image.contiguous(memory_format=torch.channels_last)), exact)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(image)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), exact, rtol=0.1, atol=0.1 * exact.abs().max().item())


def test_settings_as_json_writes_them():
    network = UNetPlusPlus(
        2, 1, 1, [4, 8], norm=["group", {"num_groups": 2}], act=["leakyrelu", {"negative_slope": 0.1}], dropout=0.2
    )
    kinds = [type(layer).__name__ for layer in network.nodes["x_0_1"].convolution[0].modules()]
    assert kinds == ["Convolution", "Conv2d", "ADN", "GroupNorm", "Dropout", "LeakyReLU"]


def test_decoder_channels():
    plain = UNetPlusPlus(2, 1, 1, channels=SMALL, decoder_channels=[10, 6, 2])
    assert [plain.nodes[name].convolution[1].conv.out_channels for name in ("x_2_1", "x_1_2", "x_0_3")] == [10, 6, 2]
    assert plain.nodes["x_0_2"].convolution[1].conv.out_channels == SMALL[0]
    assert plain(make_image(2, 1, 8, 8)).shape == (2, 1, 8, 8)
    named = UNetPlusPlus(2, 1, 1, encoder="resnet18", encoder_depth=3, decoder_channels=[10, 6, 2])
    assert [named.nodes[name].convolution[1].conv.out_channels for name in ("x_1_1", "x_0_2")] == [10, 6]
    assert named.full_size[1][1].conv.out_channels == 2


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 16, 16), r"takes \(batch, 1 channels, 2 sides\), got \[1, 3, 16, 16\]"),
        ((1, 16, 16), r"takes \(batch, 1 channels, 2 sides\), got \[1, 16, 16\]"),
        ((1, 1, 16, 16, 16), r"takes \(batch, 1 channels, 2 sides\), got \[1, 1, 16, 16, 16\]"),
        ((1, 1, 16, 7), r"image of size \[16, 7\] is too small for .* each must be at least 8"),
        ((1, 1, 0, 16), r"image of size \[0, 16\] is too small for"),
    ],
)
def test_wrong_images(shape, message):
    with pytest.raises(ValueError, match=message) as caught:
        UNetPlusPlus(2, 1, 1, channels=SMALL)(torch.zeros(shape))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"out_channels": 0}, "in_channels and out_channels must be at least 1, got 1 and 0"),
        ({"channels": [8]}, r"at least two levels of at least one channel, got \[8\]"),
        ({"encoder": "resnet18", "spatial_dims": 3}, "is for spatial_dims 2, got 3; leave encoder out in 3-D"),
        ({"encoder": "resnet18", "encoder_depth": 1}, "encoder_depth must be from 2 to 5, got 1"),
        ({"encoder": "resnet18", "encoder_depth": 6}, "must be from 1 to 5, got 6"),
        ({"decoder_channels": [8, 4]}, r"must have 3 entries of at least 1, the coarsest level first, got \[8, 4\]"),
        ({"pruning_level": 4, "deep_supervision": True}, "pruning_level must be from 1 to 3, got 4"),
        ({"pruning_level": 2}, "pruning_level 2 needs deep_supervision: without it only column 3 has an output"),
        ({"upsample": "cubic"}, 'upsample must be "deconv", "nearest" or "bilinear", got \'cubic\''),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNetPlusPlus(**{"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": SMALL, **arguments})


def test_an_unknown_encoder_is_told_in_one_line():
    with pytest.raises(InputError, match="no encoder 'resnet43', did you mean 'resnet34'"):
        UNetPlusPlus(2, 1, 1, encoder="resnet43")
