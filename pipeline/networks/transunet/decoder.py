"""The cascaded upsampler: from the transformer's map back to the image's size, with skip connections."""

from collections.abc import Sequence

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import nn
from torch.nn import functional as F


class CascadedUpsampler(nn.Module):
    """Decoder of TransUNet: four times double the size, concatenate the encoder's features, convolve twice.

    Bilinear upsampling keeps corners on corners (``align_corners``), every convolution is 3x3, without bias, and
    followed by batch norm and ReLU (MONAI's ``Convolution``). The last step, at full size, has no features to join.

    Args:
        in_channels: channels of the transformer's map.
        head_channels: channels after the first convolution, before any upsampling.
        skip_channels: channels of the encoder's features, the deepest first.
        decoder_channels: channels after each doubling.
    """

    def __init__(
        self, in_channels: int, head_channels: int, skip_channels: Sequence[int], decoder_channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.bridge = _convolution(in_channels, head_channels)
        skips = [*skip_channels, *[0] * (len(decoder_channels) - len(skip_channels))]
        self.steps = nn.ModuleList(
            nn.Sequential(_convolution(before + skip, after), _convolution(after, after))
            for before, skip, after in zip(
                [head_channels, *decoder_channels[:-1]], skips, decoder_channels, strict=True
            )
        )

    def forward(self, x: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """Compute ``(B, decoder_channels[-1], 16 h, 16 w)``.

        Args:
            x: ``(B, in_channels, h, w)``.
            skips: the encoder's features, the deepest first, each twice as large as the one before.
        """
        x = self.bridge(x)
        for number, step in enumerate(self.steps):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            if number < len(skips):
                x = torch.cat([x, skips[number]], dim=1)
            x = step(x)
        return x


def _convolution(before: int, after: int) -> Convolution:
    return Convolution(
        2,
        before,
        after,
        kernel_size=3,
        bias=False,
        norm="batch",
        act=("relu", {"inplace": True}),
        adn_ordering="NA",
    )
