"""The encoder of the U-Net papers: two convolutions per level, max pooling between levels, for 2-D and 3-D."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Pool
from torch import nn

from pipeline.networks.encoders.base import Encoder


def double_convolution(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    norm: str | Sequence[Any] | None = "batch",
    act: str | Sequence[Any] | None = ("relu", {"inplace": True}),
    dropout: float = 0.0,
) -> nn.Sequential:
    """Make two 3x3 convolutions (3x3x3 in 3-D), each followed by normalisation, dropout and activation.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out of the first and of the second.
        norm: MONAI's name of a normalisation, with arguments or without, or None; without one the convolutions have a
            bias.
        act: MONAI's name of an activation.
        dropout: probability of a feature to be zeroed in training.

    Example:
        >>> double_convolution(2, 3, 8)(torch.zeros(1, 3, 4, 4)).shape
        torch.Size([1, 8, 4, 4])
    """
    layers = (
        Convolution(
            spatial_dims,
            channels,
            out_channels,
            adn_ordering="NDA",
            norm=_as_tuple(norm),
            act=_as_tuple(act),
            dropout=dropout or None,
            bias=norm is None,
        )
        for channels in (in_channels, out_channels)
    )
    block = nn.Sequential(*layers)
    initialize(block)
    return block


def initialize(module: nn.Module) -> None:
    """Draw the weights of all convolutions as He et al. 2015 for ReLU; biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _as_tuple(setting: str | Sequence[Any] | None) -> Any:
    """Return a setting as MONAI expects it: a tuple in place of JSON's list."""
    return setting if setting is None or isinstance(setting, str) else tuple(setting)


class PlainEncoder(Encoder):
    """Two convolutions per level, max pooling between levels; level 1 has the size of the image.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        channels: one entry per level, the finest first.
        norm: MONAI's name of a normalisation.
        act: MONAI's name of an activation.
        dropout: probability of a feature to be zeroed in training.

    Example:
        >>> encoder = PlainEncoder(3, 1, [4, 8])
        >>> [tuple(level.shape) for level in encoder(torch.zeros(1, 1, 8, 8, 8))]
        [(1, 4, 8, 8, 8), (1, 8, 4, 4, 4)]
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int],
        norm: str | Sequence[Any] | None = "batch",
        act: str | Sequence[Any] | None = ("relu", {"inplace": True}),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_channels, tuple(channels), tuple(2**level for level in range(len(channels))))
        widths = [in_channels, *channels]
        self.stages = nn.ModuleList(
            double_convolution(spatial_dims, before, after, norm, act, dropout) for before, after in pairwise(widths)
        )
        self.pool: nn.Module = Pool[Pool.MAX, spatial_dims](kernel_size=2)

    def list_stages(self) -> list[list[nn.Module]]:
        """List the convolutions of each level."""
        return [[stage] for stage in self.stages]

    def forward(self, image: torch.Tensor, levels: int = 100) -> list[torch.Tensor]:
        """Compute the pyramid.

        Args:
            image: ``(B, in_channels, *spatial)``.
            levels: number of levels to compute.

        Returns:
            Maps of 1, 1/2 ... of the image's size, rounded down.
        """
        x = image
        pyramid: list[torch.Tensor] = []
        for level, stage in enumerate(self.stages):
            if level < levels:
                x = stage(x if level == 0 else self.pool(x))
                pyramid.append(x)
        return pyramid
