"""The convolutional half of a hybrid encoder: ResNet-50 with standardised weights and group norm, to 1/16."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

#: Groups and epsilon of a group norm, as in the reference implementation
GROUPS = 32
GROUP_NORM_EPS = 1e-6


class StdConv2d(nn.Conv2d):
    """Convolution whose weights are standardised before use (Qiao et al. 2019, arXiv:1903.10520).

    ``w' = (w - mean(w)) / sqrt(var(w) + 1e-5)``, mean and (biased) variance over the inputs of each output channel.

    Example:
        >>> convolution = StdConv2d(3, 2, kernel_size=3, bias=False)
        >>> constant = torch.ones(1, 3, 3, 3)  # standardised weights sum to 0
        >>> bool(convolution(constant).abs().max() < 1e-5)
        True
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve ``(B, C, H, W)``."""
        variance, mean = torch.var_mean(self.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
        weight = (self.weight - mean) / torch.sqrt(variance + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Bottleneck(nn.Module):
    """Residual unit of 1x1, 3x3 and 1x1 convolutions, each followed by group norm.

    Despite the "V2" in the reference's names the norms follow the convolutions. As there, the norm of a projected
    shortcut has one group per channel and the default epsilon.

    Args:
        before: channels of the input.
        middle: channels of the first two convolutions.
        after: channels of the output.
        stride: of the 3x3 convolution.
    """

    def __init__(self, before: int, middle: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = StdConv2d(before, middle, kernel_size=1, bias=False)
        self.gn1 = nn.GroupNorm(GROUPS, middle, eps=GROUP_NORM_EPS)
        self.conv2 = StdConv2d(middle, middle, kernel_size=3, stride=stride, padding=1, bias=False)
        self.gn2 = nn.GroupNorm(GROUPS, middle, eps=GROUP_NORM_EPS)
        self.conv3 = StdConv2d(middle, after, kernel_size=1, bias=False)
        self.gn3 = nn.GroupNorm(GROUPS, after, eps=GROUP_NORM_EPS)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            projection = StdConv2d(before, after, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(
                OrderedDict[str, nn.Module](conv_proj=projection, gn_proj=nn.GroupNorm(after, after))
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute ``(B, after, H / stride, W / stride)``."""
        y = self.relu(self.gn1(self.conv1(x)))
        y = self.relu(self.gn2(self.conv2(y)))
        return self.relu(self.shortcut(x) + self.gn3(self.conv3(y)))


class ResNetV2Stem(nn.Module):
    """ResNet-50 of the hybrid ViT of Dosovitskiy et al. 2020: its first stages, down to 1/16 of the image.

    A 7x7 convolution with stride 2, group norm, ReLU, 3x3 max pooling with stride 2 and no padding, then three blocks
    of residual units, the last two with stride 2.

    The unpadded pooling gives one pixel less than a quarter of the image. As in the reference implementation, the
    features at 1/4 go to the decoder with a row and a column of zeros at the far ends.

    Args:
        in_channels: channels of the image.
        block_units: residual units of each of the three blocks.
        width: channels of the first convolution, a multiple of 32; the blocks end with 4, 8 and 16 times as many.
    """

    def __init__(self, in_channels: int = 3, block_units: Sequence[int] = (3, 4, 9), width: int = 64) -> None:
        super().__init__()
        self.conv = StdConv2d(in_channels, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.gn = nn.GroupNorm(GROUPS, width, eps=GROUP_NORM_EPS)
        self.relu = nn.ReLU(inplace=True)
        self.block1 = _block(width, width, block_units[0], stride=1)
        self.block2 = _block(4 * width, 2 * width, block_units[1], stride=2)
        self.block3 = _block(8 * width, 4 * width, block_units[2], stride=2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Compute features at four scales.

        Args:
            x: images ``(B, in_channels, H, W)``, H and W multiples of 16.

        Returns:
            Features ``(B, 16 * width, H / 16, W / 16)``, and those for the decoder, the deepest first:
            ``8 * width`` channels at 1/8, ``4 * width`` at 1/4, ``width`` at 1/2.
        """
        rows, columns = x.shape[2] // 4, x.shape[3] // 4
        half = self.relu(self.gn(self.conv(x)))
        quarter = self.block1(F.max_pool2d(half, kernel_size=3, stride=2))
        eighth = self.block2(quarter)
        sixteenth = self.block3(eighth)
        quarter = F.pad(quarter, [0, columns - quarter.shape[3], 0, rows - quarter.shape[2]])
        return sixteenth, [eighth, quarter, half]


def _block(before: int, middle: int, n_units: int, stride: int) -> nn.Sequential:
    after = 4 * middle
    units = OrderedDict[str, nn.Module](unit1=Bottleneck(before, middle, after, stride))
    units.update((f"unit{number}", Bottleneck(after, middle, after)) for number in range(2, n_units + 1))
    return nn.Sequential(units)
