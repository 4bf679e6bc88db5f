"""What every network of the bundles must do: ours, and MONAI's that are used as they are."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from monai.networks.nets import UNETR, AttentionUnet, BasicUNet, SegResNet, UNet
from torch import nn

import pipeline.networks
from pipeline.networks import EncoderUNet, TransUNet, UNet2015, UNetPlusPlus

#: Channels of the images; no network here has this number of dimensions, classes or levels.
IN_CHANNELS = 5
OUT_CHANNELS = 2


@dataclass(frozen=True)
class Case:
    """A network narrow enough for tests.

    Args:
        build: the class.
        arguments: for it, besides the number of channels.
        size: sides of the images.
        out_size: sides of the output where they differ.
        smallest: sides that the network just takes, with one less it must refuse; None for MONAI's.
        unused: parameters that no gradient reaches (the end of the name), and why.
    """

    build: type[nn.Module]
    arguments: dict[str, Any]
    size: tuple[int, ...]
    out_size: tuple[int, ...] | None = None
    smallest: tuple[int, ...] | None = None
    unused: Mapping[str, str] = field(default_factory=dict)

    def make(self) -> nn.Module:
        """Build the network, always with the same weights."""
        torch.manual_seed(0)
        return self.build(in_channels=IN_CHANNELS, out_channels=OUT_CHANNELS, **self.arguments)

    def make_images(self, batch: int = 2) -> torch.Tensor:
        """Make images ``(batch, IN_CHANNELS, *size)``."""
        return torch.randn(batch, IN_CHANNELS, *self.size, generator=torch.Generator().manual_seed(1))


TRANSUNET = {
    "img_size": 32,
    "hidden_size": 12,
    "num_layers": 2,
    "num_heads": 3,
    "mlp_dim": 16,
    "block_units": (1, 1, 1),
    "width_factor": 0.5,
    "head_channels": 8,
    "decoder_channels": (8, 8, 4, 4),
}
RELU = ("RELU", {"inplace": True})
OURS = {
    "UNet2015": Case(UNet2015, {"channels": (4, 8, 16)}, (60, 44), (20, 4), smallest=(44, 44)),
    "UNet2015-norm": Case(UNet2015, {"channels": (4, 8, 16), "norm": "batch"}, (60, 44), (20, 4), smallest=(44, 44)),
    "UNet2015-3d": Case(UNet2015, {"spatial_dims": 3, "channels": (2, 4)}, (18, 20, 22), (2, 4, 6), (18, 18, 18)),
    "UNetPlusPlus": Case(UNetPlusPlus, {"spatial_dims": 2, "channels": (4, 8, 16)}, (30, 21), smallest=(4, 4)),
    "UNetPlusPlus-3d": Case(UNetPlusPlus, {"spatial_dims": 3, "channels": (4, 8)}, (9, 8, 7), smallest=(2, 2, 2)),
    "UNetPlusPlus-supervised": Case(
        UNetPlusPlus,
        {"spatial_dims": 2, "channels": (4, 8, 16), "deep_supervision": True},
        (32, 24),
        smallest=(4, 4),
    ),
    "UNetPlusPlus-resnet18": Case(
        UNetPlusPlus,
        {"spatial_dims": 2, "encoder": "resnet18", "encoder_depth": 2, "decoder_channels": (8, 4)},
        (32, 24),
        smallest=(4, 4),
    ),
    "EncoderUNet": Case(
        EncoderUNet,
        {"encoder": "efficientnet-lite0", "encoder_depth": 3, "decoder_channels": (8, 8, 4)},
        (36, 27),
        smallest=(8, 8),
    ),
    "TransUNet": Case(TransUNet, TRANSUNET, (48, 40), smallest=(32, 32)),
}
MONAIS = {
    "BasicUNet": Case(
        BasicUNet, {"spatial_dims": 2, "features": (4, 4, 8, 8, 16, 4), "act": RELU, "norm": "batch"}, (32, 48)
    ),
    "AttentionUnet": Case(AttentionUnet, {"spatial_dims": 2, "channels": (4, 8, 16), "strides": (2, 2)}, (32, 24)),
    "UNet": Case(
        UNet,
        {"spatial_dims": 2, "channels": (4, 8, 16), "strides": (2, 2), "num_res_units": 2, "norm": "batch"},
        (32, 24),
    ),
    "UNETR": Case(
        UNETR,
        {"img_size": (16, 32, 16), "feature_size": 4, "hidden_size": 8, "mlp_dim": 8, "num_heads": 2},
        (16, 32, 16),
        unused={"norm_cross_attn.weight": "MONAI makes the norm without the attention", "norm_cross_attn.bias": "same"},
    ),
    "SegResNet": Case(
        SegResNet, {"spatial_dims": 3, "init_filters": 8, "blocks_down": (1, 1), "blocks_up": (1,)}, (8, 12, 10)
    ),
}
ALL = OURS | MONAIS

every_network = pytest.mark.parametrize("case", ALL.values(), ids=ALL.keys())
each_of_ours = pytest.mark.parametrize("case", OURS.values(), ids=OURS.keys())


def test_no_network_of_ours_is_left_out() -> None:
    exported = {getattr(pipeline.networks, name) for name in pipeline.networks.__all__}
    networks = {item for item in exported if isinstance(item, type) and issubclass(item, nn.Module)}
    assert networks == {case.build for case in OURS.values()}


@every_network
@pytest.mark.parametrize("batch", [1, 3])
def test_one_tensor_of_the_right_shape(case: Case, batch: int) -> None:
    network = case.make().eval()
    logits = network(case.make_images(batch))
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (batch, OUT_CHANNELS, *(case.out_size or case.size))
    assert logits.isfinite().all()


@every_network
def test_gradients_reach_every_parameter(case: Case) -> None:
    """Batches of one, as the last of an epoch may be; a single step changes all weights."""
    network = case.make().train()
    outputs = network(case.make_images(batch=1))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    sum((output * torch.randn_like(output)).sum() for output in outputs).backward()
    for name, parameter in network.named_parameters():
        if name.endswith(tuple(case.unused)):
            assert parameter.grad is None, f"{name} is used after all"
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if parameter.ndim > 1:  # biases before a norm and of attention's keys have no effect
            assert parameter.grad.any(), name


@every_network
def test_scripts(case: Case) -> None:
    network = case.make().eval()
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(network), content)
    content.seek(0)
    scripted = torch.jit.load(content)
    images = case.make_images()
    with torch.jit.optimized_execution(False):  # of a graph that runs once
        torch.testing.assert_close(scripted(images), network(images))


@every_network
def test_weights_come_back(case: Case) -> None:
    """Through a file of plain tensors; batch norm's statistics, too."""
    network = case.make()
    network.train()(case.make_images())
    content = io.BytesIO()
    torch.save(network.state_dict(), content)
    content.seek(0)
    torch.manual_seed(9)
    copy = case.build(in_channels=IN_CHANNELS, out_channels=OUT_CHANNELS, **case.arguments)
    copy.load_state_dict(torch.load(content, weights_only=True))
    images = case.make_images()
    assert torch.equal(copy.eval()(images), network.eval()(images))


@every_network
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_seed_settles_everything(case: Case, mode: str) -> None:
    """The weights and, in training, dropout."""

    def run() -> list[torch.Tensor]:
        network = case.make().train(mode == "train")
        output = network(case.make_images())
        return output if isinstance(output, list) else [output]

    assert all(torch.equal(first, second) for first, second in zip(run(), run(), strict=True))


@every_network
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(case: Case, dtype: torch.dtype) -> None:
    network = case.make().eval()
    images = case.make_images()
    expected = network(images)
    with torch.autocast("cpu", dtype=dtype):
        logits = network(images)
    assert logits.isfinite().all()
    # bfloat16 keeps 8 bits of a number
    assert (logits.float() - expected).abs().max() < 0.1 * expected.abs().max()


@every_network
def test_channels_last(case: Case) -> None:
    network = case.make().eval()
    images = case.make_images()
    expected = network(images)
    memory_format = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
    network = network.to(memory_format=memory_format)
    torch.testing.assert_close(network(images.to(memory_format=memory_format)), expected, atol=1e-5, rtol=1e-4)


def refuse(case: Case, images: torch.Tensor) -> str:
    """Return the message, one line, with which a network refuses images."""
    with pytest.raises(ValueError, match=r".") as caught:
        case.make().eval()(images)
    message = str(caught.value)
    assert "\n" not in message
    return message


@each_of_ours
@pytest.mark.parametrize("wrong", [1, 7])
def test_wrong_channels(case: Case, wrong: int) -> None:
    """The message has the number of channels expected and the shape found."""
    images = torch.zeros(1, wrong, *case.size)
    message = refuse(case, images)
    assert re.search(rf"\b{IN_CHANNELS}\b", message)
    assert str(list(images.shape)) in message


@each_of_ours
def test_wrong_dimensions(case: Case) -> None:
    images = torch.zeros(1, IN_CHANNELS, *case.size, 16)
    assert str(list(images.shape)) in refuse(case, images)


@each_of_ours
def test_smallest_image(case: Case) -> None:
    assert case.smallest is not None
    logits = case.make().eval()(torch.zeros(1, IN_CHANNELS, *case.smallest))
    assert logits.isfinite().all()


@each_of_ours
@pytest.mark.parametrize("axis", [0, -1])
def test_image_that_is_too_small(case: Case, axis: int) -> None:
    """The message has the side found and the smallest that fits."""
    assert case.smallest is not None
    sides = list(case.smallest)
    sides[axis] -= 1
    message = refuse(case, torch.zeros(1, IN_CHANNELS, *sides))
    assert re.search(rf"(?<!\d){sides[axis]}(?!\d)", message)
    assert re.search(rf"(at least|the smallest that does has) {case.smallest[axis]}\b", message)
