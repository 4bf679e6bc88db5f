"""ResNet encoders with torchvision's module names, so that its weights fit."""

from collections.abc import Sequence

import torch
from torch import nn

from pipeline.networks.encoders.base import Encoder

_WIDTHS = (64, 128, 256, 512)


class ResNetEncoder(Encoder):
    """Residual network (He et al. 2016, https://arxiv.org/abs/1512.03385) without its classifier, for 2-D images.

    Modules and keys are those of torchvision: ``conv1``, ``bn1``, ``layer1.0.conv1`` ... The stride of a bottleneck is
    in its 3x3 convolution, as in torchvision. Level 1 is the stem (1/2 of the image's size), level 2 ``layer1`` (1/4),
    level 5 ``layer4`` (1/32).

    Args:
        blocks: number of blocks in ``layer1`` to ``layer4``; [2, 2, 2, 2] is ResNet-18.
        bottleneck: blocks of 1x1, 3x3, 1x1 convolutions with four times the channels, from ResNet-50 on.
        in_channels: channels of the image.
        depth: levels of the pyramid, 1 to 5; layers beyond are not built.

    Raises:
        ValueError: ``depth`` is not from 1 to 5.

    Example:
        >>> encoder = ResNetEncoder([2, 2, 2, 2], depth=4)
        >>> encoder.channels
        (64, 64, 128, 256)
        >>> [tuple(level.shape) for level in encoder(torch.zeros(1, 3, 32, 64))]
        [(1, 64, 16, 32), (1, 64, 8, 16), (1, 128, 4, 8), (1, 256, 2, 4)]
    """

    def __init__(
        self, blocks: Sequence[int], *, bottleneck: bool = False, in_channels: int = 3, depth: int = 5
    ) -> None:
        if not 1 <= depth <= 5:
            raise ValueError(f"depth of a ResNet encoder must be from 1 to 5, got {depth}")
        block = Bottleneck if bottleneck else BasicBlock
        channels = (64, *(width * block.expansion for width in _WIDTHS))[:depth]
        super().__init__(in_channels, channels, (2, 4, 8, 16, 32)[:depth])
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        layers: list[nn.Sequential | None] = [None] * 4
        for index in range(depth - 1):
            layers[index] = _make_layer(block, channels[index], _WIDTHS[index], blocks[index], 1 if index == 0 else 2)
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.stem_key = "conv1.weight"
        self.foreign_keys = ("fc.", *(f"layer{number}." for number in range(depth, 5)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def list_stages(self) -> list[list[nn.Module]]:
        """List the modules of each level: the stem, ``layer1`` ..."""
        layers = (self.layer1, self.layer2, self.layer3, self.layer4)
        stages: list[list[nn.Module]] = [[layer] for layer in layers if layer is not None]
        return [[self.conv1, self.bn1], *stages]

    def forward(self, image: torch.Tensor, levels: int = 5) -> list[torch.Tensor]:
        """Compute the pyramid.

        Args:
            image: ``(B, in_channels, H, W)``.
            levels: number of levels to compute.

        Returns:
            Maps of 1/2, 1/4 ... of the image's size, rounded up.
        """
        x = self.relu(self.bn1(self.conv1(image)))
        pyramid = [x]
        # written out for TorchScript, which drops the layers that are None
        if self.layer1 is not None and levels > 1:
            x = self.layer1(self.maxpool(x))
            pyramid.append(x)
        if self.layer2 is not None and levels > 2:
            x = self.layer2(x)
            pyramid.append(x)
        if self.layer3 is not None and levels > 3:
            x = self.layer3(x)
            pyramid.append(x)
        if self.layer4 is not None and levels > 4:
            pyramid.append(self.layer4(x))
        return pyramid


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _make_shortcut(in_channels, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, in_channels, H, W)`` to ``(B, width, H / stride, W / stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)


class Bottleneck(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1 beside a shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _make_shortcut(in_channels, width * self.expansion, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, in_channels, H, W)`` to ``(B, 4 width, H / stride, W / stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += shortcut
        return self.relu(x)


def _make_layer(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, width: int, count: int, stride: int
) -> nn.Sequential:
    first = block(in_channels, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1) for _ in range(count - 1)))


def _make_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )
