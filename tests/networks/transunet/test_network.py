from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.networks.transunet import TransUNet

Build = Callable[..., TransUNet]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def convolution(before: int, after: int, size: int) -> int:
    return before * after * size**2


def test_parameters_of_every_part_at_full_size() -> None:
    """R50-ViT-B_16 layer by layer, from the configuration of the authors' release (networks/vit_seg_configs.py).

    Public programs that count the release's parameters print 97 888 576 for its encoder at 224x224, and 105 277 081
    for all of it with 9 classes.
    """
    with torch.device("meta"):
        network = TransUNet(out_channels=9, img_size=224)
    stem, before = convolution(3, 64, 7) + 2 * 64, 64
    for units, middle in ((3, 64), (4, 128), (9, 256)):
        after = 4 * middle
        stem += convolution(before, after, 1) + 2 * after  # the projected shortcut of the first unit
        for _ in range(units):
            stem += convolution(before, middle, 1) + convolution(middle, middle, 3) + convolution(middle, after, 1)
            stem += 2 * (middle + middle + after)
            before = after
    assert count(network.encoder.stem) == stem == 11_894_848

    attention = 4 * (768 * 768 + 768)
    mlp = 768 * 3072 + 3072 + 3072 * 768 + 768
    layers = 12 * (attention + mlp + 2 * 2 * 768)
    transformer = 1024 * 768 + 768 + 14 * 14 * 768 + layers + 2 * 768
    assert count(network.encoder.transformer) == transformer
    assert stem + transformer == 97_888_576

    decoder, before = convolution(768, 512, 3) + 2 * 512, 512
    for skip, after in ((512, 256), (256, 128), (64, 64), (0, 16)):
        decoder += convolution(before + skip, after, 3) + convolution(after, after, 3) + 2 * 2 * after
        before = after
    assert count(network.decoder) == decoder
    assert count(network.head) == convolution(16, 9, 3) + 9
    assert count(network) == stem + transformer + decoder + 9 * 145 == 105_277_081


@pytest.mark.parametrize(
    ("out_channels", "img_size", "expected"),
    [(2, 224, 105_276_066), (1, (224, 224), 105_275_921), (1, 256, 105_322_001)],
)
def test_parameters_at_other_sizes(out_channels: int, img_size: Any, expected: int) -> None:
    with torch.device("meta"):
        assert count(TransUNet(out_channels=out_channels, img_size=img_size)) == expected


def test_feature_maps_at_full_size() -> None:
    """Figure 1 of the paper and the release's ``skip_channels`` and ``decoder_channels``, at 224x224."""
    with torch.device("meta"):
        network = TransUNet(out_channels=9).eval()
        shapes = []
        parts = (
            network.encoder.transformer,
            network.encoder.transformer.norm,
            network.decoder.bridge,
            *network.decoder.steps,
        )
        for part in parts:
            part.register_forward_hook(lambda module, inputs, output: shapes.append((inputs[0].shape, output.shape)))
        assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 9, 224, 224)
    assert shapes == [
        ((2, 14 * 14, 768), (2, 14 * 14, 768)),  # tokens
        ((2, 1024, 14, 14), (2, 768, 14, 14)),  # stem -> transformer
        ((2, 768, 14, 14), (2, 512, 14, 14)),
        ((2, 512 + 512, 28, 28), (2, 256, 28, 28)),
        ((2, 256 + 256, 56, 56), (2, 128, 56, 56)),
        ((2, 128 + 64, 112, 112), (2, 64, 112, 112)),
        ((2, 64, 224, 224), (2, 16, 224, 224)),
    ]


def test_decoder_keeps_corners_on_corners(build_small: Build) -> None:
    network = build_small()
    x = torch.randn(1, 24, 2, 3)
    seen = []
    network.decoder.steps[3].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network.decoder.steps[2].register_forward_hook(lambda module, inputs, output: seen.append(output))
    skips = [torch.randn(1, n, 2 * by, 3 * by) for n, by in ((256, 2), (128, 4), (32, 8))]
    assert network.decoder(x, skips).shape == (1, 4, 32, 48)
    small, large = seen
    assert large.shape == (1, 8, 32, 48)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(large[(..., *corner)], small[(..., *corner)])
    # pixel 1 of 32 lies at 15/31 between the pixels 0 and 1 of 16
    torch.testing.assert_close(large[0, 0, 1, 0], small[0, 0, 0, 0].lerp(small[0, 0, 1, 0], 15 / 31))


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (64, 80), (33, 95)])
def test_any_size_from_32_pixels(rows: int, columns: int, build_small: Build) -> None:
    network = build_small()
    image = torch.randn(1, 3, rows, columns)
    logits = network(image)
    assert logits.shape == (1, 2, rows, columns)
    padded = F.pad(image, (0, -columns % 16, 0, -rows % 16), mode="replicate")
    torch.testing.assert_close(logits, network(padded)[..., :rows, :columns])


def test_positions_made_for_an_oblong_size(build_small: Build) -> None:
    network = build_small(img_size=(64, 90))
    assert network.encoder.transformer.grid == (4, 6)
    assert network(torch.zeros(1, 3, 64, 90)).shape == (1, 2, 64, 90)


def test_position_matters(build_small: Build) -> None:
    network = build_small(num_layers=1)
    image = torch.randn(1, 3, 64, 64)
    logits = network(image)
    nn.init.normal_(network.encoder.transformer.position_embedding)
    assert not torch.allclose(network(image), logits)


@pytest.mark.parametrize("in_channels", [1, 4])
def test_other_channels(in_channels: int, build_small: Build) -> None:
    network = build_small(in_channels=in_channels)
    assert network(torch.zeros(2, in_channels, 32, 32)).shape == (2, 2, 32, 32)


@pytest.mark.parametrize("arguments", [{}, {"attention_dropout_rate": 0.1}])
def test_scripted_network_is_the_same(arguments: dict[str, float], build_small: Build) -> None:
    network = build_small(**arguments)
    scripted = torch.jit.script(network)
    for rows, columns in ((64, 64), (50, 72)):
        image = torch.randn(1, 3, rows, columns)
        torch.testing.assert_close(scripted(image), network(image))
    with pytest.raises(torch.jit.Error, match="too small for TransUNet; both sides need at least 32"):
        scripted(torch.zeros(1, 3, 31, 64))


def test_it_learns(build_small: Build) -> None:
    torch.manual_seed(0)
    network = build_small(out_channels=1, dropout_rate=0.0).train()
    image = torch.zeros(2, 3, 32, 32)
    image[0, :, 8:20, 8:20] = image[1, :, 16:30, 4:16] = 1
    truth = image[:, :1]
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(network(image), truth)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 64, 64), r"expects an input \(B, C, H, W\) with 3 channels, got \[1, 1, 64, 64\]"),
        ((3, 64, 64), r"expects an input \(B, C, H, W\) with 3 channels, got \[3, 64, 64\]"),
        ((1, 3, 64, 31), "an image of 64x31 pixels is too small for TransUNet; both sides need at least 32"),
    ],
)
def test_inputs_that_do_not_fit(shape: tuple[int, ...], message: str, build_small: Build) -> None:
    with pytest.raises(ValueError, match=message):
        build_small()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 3}, "TransUNet has 2 spatial dimensions, got spatial_dims=3"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"hidden_size": 25}, "hidden_size must be a multiple of num_heads, got 25 and 3"),
        ({"dropout_rate": 1.0}, "dropout_rate must be at least 0 and below 1, got 1.0"),
        ({"attention_dropout_rate": -0.1}, "attention_dropout_rate must be at least 0 and below 1, got -0.1"),
        ({"width_factor": 0.25}, "width_factor must be a multiple of 0.5, got 0.25"),
        ({"width_factor": 0.75}, "width_factor must be a multiple of 0.5, got 0.75"),
        ({"block_units": (3, 4)}, r"block_units must have 3 numbers, got \[3, 4\]"),
        ({"decoder_channels": (8, 4, 4)}, r"decoder_channels must have 4 numbers, got \[8, 4, 4\]"),
        ({"decoder_channels": (8, 4, 0, 4)}, r"decoder_channels must be at least 1, got \[8, 4, 0, 4\]"),
        ({"img_size": 31}, "img_size must be one or two numbers from 32 pixels on, got 31"),
        ({"img_size": (64, 64, 64)}, "img_size must be one or two numbers from 32 pixels on"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str, build_small: Build) -> None:
    with pytest.raises(ValueError, match=message):
        build_small(**arguments)
