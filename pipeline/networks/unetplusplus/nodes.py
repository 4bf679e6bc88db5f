"""The nodes of UNet++'s grid and their channels."""

from collections.abc import Callable, Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn

#: ``convolve(in_channels, out_channels)`` makes the convolutions of a node
Convolve = Callable[[int, int], nn.Module]


class NestedNode(nn.Module):
    """A node of the grid: convolves the earlier nodes of its level and the upsampled node below together.

    Args:
        level: 0 is the finest.
        column: 1 is next to the encoder.
        upsampling: doubles the grid of the node below.
        convolution: takes the channels of all inputs together.
    """

    def __init__(self, level: int, column: int, upsampling: nn.Module, convolution: nn.Module) -> None:
        super().__init__()
        self.level = level
        self.column = column
        self.upsampling = upsampling
        self.convolution = convolution

    def forward(self, below: torch.Tensor, row: list[torch.Tensor]) -> torch.Tensor:
        """Compute the node.

        Args:
            below: ``(B, C, *spatial / 2)``, the node below on the left.
            row: all nodes on the left, each ``(B, C', *spatial)``.
        """
        parts = [self.upsampling(below)]
        parts.extend(row)
        return self.convolution(torch.cat(parts, dim=1))


def make_nodes(
    spatial_dims: int, channels: Sequence[int], last_channels: Sequence[int], upsample: str, convolve: Convolve
) -> list[NestedNode]:
    """Make all nodes right of the encoder, in an order in which they can be computed.

    It goes diagonal by diagonal from the finest level down, as the encoder does, so a network pruned to column j
    needs only the first ``j (j + 1) / 2`` nodes. Each node needs the newest node of the level
    below.

    Args:
        spatial_dims: 2 or 3.
        channels: of the encoder's levels, the finest first; nodes inside the grid have the same number.
        last_channels: of the last node of each level but the lowest, the finest first.
        upsample: "deconv", "nearest" or "bilinear".
        convolve: makes the convolutions of a node.
    """
    columns = len(channels) - 1

    def count(level: int, column: int) -> int:
        return last_channels[level] if column > 0 and level + column == columns else channels[level]

    nodes = []
    for diagonal in range(1, columns + 1):
        for level in reversed(range(diagonal)):
            column = diagonal - level
            below, out = count(level + 1, column - 1), count(level, column)
            lifted = out if upsample == "deconv" else below
            nodes.append(
                NestedNode(
                    level,
                    column,
                    make_upsampling(upsample, spatial_dims, below, lifted),
                    convolve(lifted + column * channels[level], out),
                )
            )
    return nodes


def make_upsampling(upsample: str, spatial_dims: int, in_channels: int, out_channels: int) -> nn.Module:
    """Make a layer that doubles each side.

    Args:
        upsample: "deconv", "nearest" or "bilinear" (trilinear in 3-D).
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out of "deconv"; the others keep ``in_channels``.

    Raises:
        ValueError: ``upsample`` is something else.
    """
    if upsample == "deconv":
        return Conv[Conv.CONVTRANS, spatial_dims](in_channels, out_channels, kernel_size=2, stride=2)
    if upsample == "nearest":
        return nn.Upsample(scale_factor=2.0, mode="nearest")
    if upsample == "bilinear":
        return nn.Upsample(scale_factor=2.0, mode="bilinear" if spatial_dims == 2 else "trilinear", align_corners=False)
    raise ValueError(f'upsample must be "deconv", "nearest" or "bilinear", got {upsample!r}')
