"""UNet2015: sizes of the paper's figure, parameters by layer, and a second forward pass written out by hand."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipeline.networks import UNet2015
from pipeline.networks.unet2015 import fits, next_input_size, valid_output_size

NARROW = (2, 3, 4, 5, 6)


def make_network(**arguments):
    torch.manual_seed(0)
    return UNet2015(**{"channels": NARROW, **arguments}).eval()


def sizes_by_hand(n, depth):
    """Output size of an input of n pixels, layer by layer; None where a layer meets a size it cannot take."""
    skips = []
    for _ in range(depth):
        n -= 4
        skips.append(n)
        if n < 2 or n % 2:
            return None
        n //= 2
    n -= 4
    for skip in reversed(skips):
        if n <= 0 or 2 * n > skip:
            return None
        n = 2 * n - 4
    return n if n > 0 else None


def forward_by_hand(network, x):
    """Figure 1 without modules: only the weights are the network's."""
    weights = network.state_dict()

    def convolve(x, name):
        return F.relu(F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"]))

    skips = []
    for level in range(network.depth + 1):
        x = x if level == 0 else F.max_pool2d(x, 2)
        x = convolve(convolve(x, f"down.{level}.0"), f"down.{level}.2")
        skips.append(x)
    for step, skip in enumerate(reversed(skips[:-1])):
        x = F.conv_transpose2d(x, weights[f"up.{step}.weight"], weights[f"up.{step}.bias"], stride=2)
        top, left = ((s - n) // 2 for s, n in zip(skip.shape[2:], x.shape[2:], strict=True))
        x = torch.cat([skip[:, :, top : top + x.shape[2], left : left + x.shape[3]], x], 1)
        x = convolve(convolve(x, f"merge.{step}.0"), f"merge.{step}.2")
    return F.conv2d(x, weights["out.weight"], weights["out.bias"])


def test_sizes_and_channels_of_figure_1():
    """The numbers beside the boxes of the figure; widths are the paper's divided by 64."""
    network = make_network(channels=(1, 2, 4, 8, 16), out_channels=2)
    seen = []
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            module.register_forward_hook(lambda _, inputs, output: seen.append((output.shape[1], output.shape[-1])))
    with torch.no_grad():
        result = network(torch.rand(1, 1, 572, 572))
    assert seen == [
        *[(1, 570), (1, 568), (2, 282), (2, 280), (4, 138), (4, 136), (8, 66), (8, 64), (16, 30), (16, 28)],
        *[(8, 56), (8, 54), (8, 52), (4, 104), (4, 102), (4, 100)],
        *[(2, 200), (2, 198), (2, 196), (1, 392), (1, 390), (1, 388), (2, 388)],
    ]
    assert len(seen) == 23  # "in total the network has 23 convolutional layers"
    assert result.shape == (1, 2, 388, 388)


def test_parameters_of_the_paper_layer_by_layer():
    """Weights and biases of every layer of figure 1: 1 channel in, 2 out."""

    def two(before, after):  # two 3x3 convolutions
        return (9 * before * after + after) + (9 * after * after + after)

    def up(before, after):  # 2x2 up-convolution
        return 4 * before * after + after

    contracting = two(1, 64) + two(64, 128) + two(128, 256) + two(256, 512) + two(512, 1024)
    assert contracting == 37_568 + 221_440 + 885_248 + 3_539_968 + 14_157_824
    expanding = sum(up(2 * n, n) + two(2 * n, n) for n in (512, 256, 128, 64))
    assert expanding == (2_097_664 + 7_078_912) + (524_544 + 1_769_984) + (131_200 + 442_624) + (32_832 + 110_720)
    total = contracting + expanding + (64 * 2 + 2)
    assert total == 18_842_048 + 12_188_480 + 130 == 31_030_658
    with torch.device("meta"):
        network = UNet2015(out_channels=2)
    assert sum(parameter.numel() for parameter in network.parameters()) == total


@pytest.mark.parametrize("channels", [(2, 3), (3, 2, 4), NARROW])
def test_equals_the_forward_pass_by_hand(channels):
    network = make_network(channels=channels, in_channels=2, out_channels=3)
    height = network.next_input_size(5)
    assert (network.fits(height), network.fits(height + 1)) == (True, False)
    x = torch.rand(2, 2, height, height + 2 ** (len(channels) - 1))
    with torch.no_grad():
        result = network(x)
        torch.testing.assert_close(result, forward_by_hand(network, x))
    assert result.shape[2:] == tuple(network.valid_output_size(n) for n in x.shape[2:])


@given(st.integers(1, 700), st.integers(0, 5))
def test_sizes_agree_with_the_layers(n, depth):
    expected = sizes_by_hand(n, depth)
    assert fits(n, depth) == (expected is not None)
    if expected is None:
        with pytest.raises(ValueError, match=f"an input of {n} pixels does not fit {depth} poolings"):
            valid_output_size(n, depth)
    else:
        assert valid_output_size(n, depth) == expected


@given(st.integers(1, 500), st.integers(0, 5))
def test_next_input_size_is_the_smallest(n_output, depth):
    n = next_input_size(n_output, depth)
    assert valid_output_size(n, depth) >= n_output
    assert not any(fits(m, depth) and valid_output_size(m, depth) >= n_output for m in range(1, n))


@given(st.integers(1, 700), st.integers(0, 5))
def test_sizes_that_the_message_names_fit(n, depth):
    if fits(n, depth):
        return
    with pytest.raises(ValueError, match="fit") as error:
        valid_output_size(n, depth)
    named = [int(word) for word in str(error.value).split("; ")[1].split() if word.isdigit()]
    assert named
    assert all(fits(m, depth) for m in named)
    if len(named) == 2:
        assert named[0] < n < named[1]
    else:
        assert n < named[0] == next_input_size(1, depth)


def test_every_output_pixel_comes_from_true_pixels_only():
    """The same pixels give the same output wherever the tile is cut, as long as the poolings fall alike."""
    network = make_network(channels=(2, 3, 4))
    image = torch.rand(1, 1, 76, 76)
    with torch.no_grad():
        whole = network(image)
        part = network(image[:, :, 8:68, 4:64])
    torch.testing.assert_close(part, whole[:, :, 8:28, 4:24], rtol=1e-5, atol=1e-6)


def test_volumes():
    network = make_network(spatial_dims=3, channels=(2, 3, 4), in_channels=2, out_channels=3)
    with torch.no_grad():
        assert network(torch.rand(1, 2, 44, 48, 52)).shape == (1, 3, 4, 8, 12)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_script_gives_the_same_and_refuses_the_same(spatial_dims):
    network = make_network(spatial_dims=spatial_dims, channels=(2, 3))
    scripted = torch.jit.script(network)
    x = torch.rand(1, 1, *[20] * spatial_dims)
    assert torch.equal(scripted(x), network(x))
    with pytest.raises(torch.jit.Error, match="an input of 21 pixels does not fit 1 poolings"):
        scripted(torch.rand(1, 1, *[20] * (spatial_dims - 1), 21))
    with pytest.raises(torch.jit.Error, match=r"expected an input \(B, 1"):
        scripted(torch.rand(1, 2, *[20] * spatial_dims))


def test_initialisation():
    torch.manual_seed(0)
    network = UNet2015(channels=(32, 64, 128))
    deviations = {
        "down.0.2": 2 / (9 * 32),
        "down.2.0": 2 / (9 * 64),
        "up.0": 2 / 128,
        "merge.1.0": 2 / (9 * 64),
        "out": 2 / 32,
    }
    for name, variance in deviations.items():
        weight = network.get_submodule(name).weight
        tolerance = 4 / (2 * weight.numel()) ** 0.5  # four standard errors
        assert weight.std().item() == pytest.approx(variance**0.5, rel=tolerance), name
    assert not any(parameter.any() for name, parameter in network.named_parameters() if name.endswith("bias"))


def test_normalisation_after_every_convolution_of_3_pixels():
    plain, normalised = make_network(), make_network(norm="batch")
    kinds = [type(layer).__name__ for pair in (*normalised.down, *normalised.merge) for layer in pair]
    assert kinds == 18 * ["Conv2d", "BatchNorm2d", "ReLU"]
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())
    x = 100 * torch.rand(1, 1, 188, 188)
    spread = [network.train()(x).std().item() for network in (plain, normalised)]
    assert spread[0] > 10 > spread[1]  # without it, a brighter image makes larger logits


def test_dropout_at_the_end_of_the_contracting_path_in_training_only():
    network = make_network(dropout=0.5)
    dropped = []
    network.drop.register_forward_hook(lambda module, inputs, output: dropped.append((inputs[0].shape[1], output)))
    x = torch.rand(1, 1, 188, 188)
    with torch.no_grad():
        assert torch.equal(network(x), network(x))
        network.train()
        assert not torch.equal(network(x), network(x))
    assert [channels for channels, _ in dropped] == 4 * [5, 6]
    share = (dropped[-1][1] == 0).float().mean() - (dropped[1][1] == 0).float().mean()
    assert share > 0.1


def test_gradients_reach_every_layer():
    network = make_network(channels=(8, 8, 8), dropout=0.0).train()
    network(torch.rand(1, 1, 60, 60)).square().mean().backward()
    assert all(bool(parameter.grad.any()) for parameter in network.parameters())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 572, 571), "an input of 571 pixels does not fit 4 poolings without padding; 556 and 572 pixels do"),
        ((1, 1, 100, 572), "an input of 100 pixels does not fit .*; the smallest that does has 188 pixels"),
        ((1, 3, 572, 572), r"expected an input \(B, 1, \*spatial\) with 2 spatial axes, got \[1, 3, 572, 572\]"),
        ((1, 1, 572, 572, 572), "with 2 spatial axes, got"),
        ((1, 572, 572), "with 2 spatial axes, got"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        make_network()(torch.empty(shape, device="meta"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"in_channels": 0}, "in_channels and out_channels must be at least 1, got 0 and 1"),
        ({"out_channels": 0}, "got 1 and 0"),
        ({"channels": (8,)}, r"channels must name at least two levels of at least 1 channel, got \[8\]"),
        ({"channels": (8, 0)}, "channels must name"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet2015(**arguments)


def test_no_output_size_below_one():
    with pytest.raises(ValueError, match="n_output must be at least 1 pixel, got 0"):
        next_input_size(0)
