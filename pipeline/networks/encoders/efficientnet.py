"""MONAI's EfficientNet as an encoder, and its Lite variant."""

import re

import torch
from monai.networks.nets import EfficientNet, EfficientNetBNFeatures
from torch import nn

from pipeline.networks.encoders.base import Encoder

#: blocks of each stack, and their channels
_LITES = {
    "efficientnet-lite0": ((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet-lite1": ((1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet-lite2": ((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)),
}
#: kernel size, stride and expansion of each stack
_LITE_BLOCKS = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
_LITE_STEM = 32
# The statistics of MONAI's momentum, 0.01, need hundreds of steps to follow the weights.
_LITE_NORM = ("batch", {"eps": 1e-3, "momentum": 0.1})
# of a block with squeeze-and-excitation; TorchScript looks for them in the others, too
_SQUEEZE = ("_se_adaptpool", "_se_reduce", "_se_reduce_padding", "_se_expand", "_se_expand_padding")
_NUMBERED_BLOCK = re.compile(r"\b_blocks\.(\d+)\.(?=_)")


class EfficientNetEncoder(Encoder):
    """MONAI's ``EfficientNetBNFeatures`` (Tan and Le 2019, https://arxiv.org/abs/1905.11946), for 2-D images.

    Keys are MONAI's (``_conv_stem``, ``_blocks.0.0._bn1`` ...), so its ``pretrained=True`` downloads fit, and so do
    files with the names of EfficientNet-PyTorch and segmentation-models (``_blocks.0._bn1`` ...). The
    classifier and the blocks beyond ``depth`` are removed; the activation is the plain Swish, because the
    memory-efficient one cannot be scripted. The paddings were computed for inputs of the network's native size, so give
    sizes that are multiples of ``strides[-1]``.

    The Lite variants (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite) have ReLU6 and
    no squeeze-and-excitation; stem, first and last stack are not scaled. Paddings are TensorFlow's "same" for all
    multiples of ``strides[-1]``. Their ImageNet weights expect red, green and blue as ``x / 127.5 - 1``, x from 0 to
    255.

    Args:
        model_name: ``"efficientnet-b0"`` to ``"efficientnet-b8"``, ``"efficientnet-l2"``; ``"efficientnet-lite0"`` to
            ``"efficientnet-lite2"``.
        in_channels: channels of the image.
        depth: levels of the pyramid, 1 to 5.

    Raises:
        ValueError: ``depth`` is not from 1 to 5.

    Example:
        >>> encoder = EfficientNetEncoder("efficientnet-b0", depth=3)
        >>> [tuple(level.shape) for level in encoder(torch.zeros(1, 3, 32, 64))]
        [(1, 16, 16, 32), (1, 24, 8, 16), (1, 40, 4, 8)]
    """

    def __init__(self, model_name: str, in_channels: int = 3, depth: int = 5) -> None:
        if not 1 <= depth <= 5:
            raise ValueError(f"depth of an EfficientNet encoder must be from 1 to 5, got {depth}")
        network = _make_lite(model_name, in_channels) if model_name in _LITES else _make_full(model_name, in_channels)
        # a level ends before the next stack with a stride; MONAI lists the number of stacks before each end
        ends = list(network.extract_stacks)[:depth]
        channels = tuple(int(network._blocks_args[end - 1].output_filters) for end in ends)
        super().__init__(in_channels, channels, (2, 4, 8, 16, 32)[:depth])
        self._ends = ends
        self._stacks = [index for index, stack in enumerate(network._blocks) for _ in stack.children()]
        self._conv_stem = network._conv_stem
        self._conv_stem_padding = network._conv_stem_padding
        self._bn0 = network._bn0
        self._swish = network._swish
        self._blocks = nn.Sequential(*list(network._blocks)[: ends[-1]])
        for stack in self._blocks:
            for block in stack.children():
                _hasten(block)
        self.stem_key = "_conv_stem.weight"
        beyond = (f"_blocks.{index}." for index in range(ends[-1], len(network._blocks)))
        self.foreign_keys = ("_conv_head.", "_bn1.", "_fc.", *beyond)

    def rename_key(self, key: str) -> str:
        """Return MONAI's name of a tensor, whose blocks stand in stacks; other files count the blocks through."""

        def insert_stack(match: re.Match[str]) -> str:
            number = int(match[1])
            return f"_blocks.{self._stacks[number]}.{number}." if number < len(self._stacks) else match[0]

        return _NUMBERED_BLOCK.sub(insert_stack, key)

    def list_stages(self) -> list[list[nn.Module]]:
        """List the modules of each level; the stem belongs to the first."""
        stacks = list(self._blocks)
        starts = [0, *self._ends[:-1]]
        stages = [stacks[start:end] for start, end in zip(starts, self._ends, strict=True)]
        return [[self._conv_stem, self._bn0, *stages[0]], *stages[1:]]

    def forward(self, image: torch.Tensor, levels: int = 5) -> list[torch.Tensor]:
        """Compute the pyramid.

        Args:
            image: ``(B, in_channels, H, W)``.
            levels: number of levels to compute.

        Returns:
            Maps of 1/2, 1/4 ... of the image's size.
        """
        x = self._swish(self._bn0(self._conv_stem(self._conv_stem_padding(image))))
        pyramid: list[torch.Tensor] = []
        for index, stack in enumerate(self._blocks):
            if len(pyramid) < levels:
                x = stack(x)
                if index + 1 in self._ends:
                    pyramid.append(x)
        return pyramid


def _make_full(model_name: str, in_channels: int) -> EfficientNet:
    network = EfficientNetBNFeatures(model_name, pretrained=False, in_channels=in_channels, num_classes=1)
    network.set_swish(memory_efficient=False)
    return network


def _make_lite(model_name: str, in_channels: int) -> EfficientNet:
    repeats, widths = _LITES[model_name]
    rows = zip(repeats, _LITE_BLOCKS, (_LITE_STEM, *widths[:-1]), widths, strict=True)
    blocks = [f"r{repeat}_k{k}_s{s}{s}_e{wider}_i{before}_o{after}" for repeat, (k, s, wider), before, after in rows]
    # 224 is halved five times without a remainder, as all multiples of 32 are, so their paddings are the same
    network = EfficientNet(blocks, in_channels=in_channels, num_classes=1, image_size=224, norm=_LITE_NORM)
    network._swish = nn.ReLU6(inplace=True)
    for stack in network._blocks.children():
        for block in stack.children():
            block._swish = nn.ReLU6(inplace=True)
            for name in _SQUEEZE:
                setattr(block, name, nn.Identity())
    return network


class DepthwiseConvolution(nn.Conv2d):
    """Depthwise convolution that computes in float32 under the CPU's autocast, and returns the input's type.

    bfloat16 gradients of 5x5 kernels and of kernels with a stride take oneDNN three to seven times as long.
    """

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map ``(B, C, H, W)`` to ``(B, C, H / stride, W / stride)``."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._conv_forward(image, self.weight, self.bias)
        else:
            if not torch.is_autocast_enabled("cpu"):
                return self._conv_forward(image, self.weight, self.bias)
            with torch.autocast("cpu", enabled=False):
                return self._conv_forward(image.float(), self.weight, self.bias).to(image.dtype)


def _hasten(block: nn.Module) -> None:
    """Let a block's depthwise convolution pad by itself where it can, and compute in the type that is fast."""
    convolution: nn.Conv2d = block._depthwise_conv  # type: ignore[assignment]
    sides = getattr(block._depthwise_conv_padding, "padding", (0,))
    if len(set(sides)) == 1:  # no copy of the image is needed
        convolution.padding = (sides[0], sides[0])
        block._depthwise_conv_padding = nn.Identity()
    if (convolution.kernel_size, convolution.stride) != ((3, 3), (1, 1)):
        convolution.__class__ = DepthwiseConvolution
