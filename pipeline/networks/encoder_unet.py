"""A U-Net whose contracting half is one of the encoders, with pretrained weights or without."""

from collections.abc import Sequence
from pathlib import Path

import torch
from monai.networks.nets.flexible_unet import SegmentationHead, UNetDecoder
from torch import nn

from pipeline.networks.encoders import load_encoder_weights, make_encoder
from pipeline.networks.sides import crop_sides, pad_sides


class EncoderUNet(nn.Module):
    """U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) for 2-D images on a pretrained encoder.

    MONAI's ``FlexibleUNet`` with this package's encoders: decoder and head are MONAI's, and the encoders include those
    whose ImageNet weights can be had as a package. Sides that are not multiples of 32 (of 2 to the power of
    ``encoder_depth``) are padded with their border's values; the output is cropped.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the output (logits).
        encoder: name of an encoder (`pipeline.networks.list_encoders`).
        encoder_depth: number of times that the encoder halves the image, 2 to 5.
        encoder_frozen: number of the encoder's stages, the finest first, that do not train; True for all.
        encoder_frozen_norm: the encoder's BatchNorm keeps scale, shift and statistics.
        decoder_channels: of the decoder's levels, the coarsest first, the last at the image's size; as many as the
            encoder is deep. By default the last ones of (256, 128, 64, 32, 16).
        dropout: probability of a feature of the decoder to be zeroed in training.
        spatial_dims: 2; the encoders are for photographs.

    Raises:
        ValueError: an argument is out of range.
        InputError: no encoder has this name.

    Example:
        >>> network = EncoderUNet(3, 1, "efficientnet-lite0", encoder_depth=2).eval()
        >>> network(torch.zeros(1, 3, 30, 21)).shape
        torch.Size([1, 1, 30, 21])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        encoder: str,
        encoder_depth: int = 5,
        encoder_frozen: bool | int | str = 0,
        encoder_frozen_norm: bool | str = False,
        decoder_channels: Sequence[int] | None = None,
        dropout: float = 0.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(f"EncoderUNet has 2 spatial dimensions, got spatial_dims={spatial_dims}")
        if min(in_channels, out_channels) < 1:
            raise ValueError(f"in_channels and out_channels must be at least 1, got {in_channels} and {out_channels}")
        if not 2 <= encoder_depth <= 5:
            raise ValueError(f"encoder_depth must be from 2 to 5, got {encoder_depth}")
        channels = tuple(decoder_channels or (256, 128, 64, 32, 16)[-encoder_depth:])
        if len(channels) != encoder_depth or min(channels) < 1:
            raise ValueError(
                f"decoder_channels must have {encoder_depth} entries of at least 1, the coarsest level first, "
                f"got {list(channels)}"
            )
        self.in_channels = in_channels
        self.encoder = make_encoder(encoder, in_channels, encoder_depth)
        self.encoder.freeze(encoder_frozen, encoder_frozen_norm)
        self.stride = max(self.encoder.strides)
        self.levels = encoder_depth
        self.decoder = UNetDecoder(
            spatial_dims=2,
            encoder_channels=(in_channels, *self.encoder.channels),
            decoder_channels=channels,
            act=("relu", {"inplace": True}),
            norm="batch",
            dropout=dropout,
            bias=False,
            upsample="nontrainable",
            pre_conv="default",
            interp_mode="nearest",
            align_corners=None,
            is_pad=False,
        )
        self.head = SegmentationHead(spatial_dims=2, in_channels=channels[-1], out_channels=out_channels)

    def load_encoder_weights(self, weights: str | Path, partial: bool | str = False) -> None:
        """Load pretrained weights into the encoder with :func:`pipeline.networks.load_encoder_weights`."""
        load_encoder_weights(self.encoder, weights, partial=partial)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Args:
            image: ``(B, in_channels, rows, columns)``, every side at least as long as the coarsest stride.

        Returns:
            ``(B, out_channels, rows, columns)``.

        Raises:
            ValueError: the image has other channels or axes, or is too small.
        """
        padded = pad_sides(image, self.stride, self.in_channels, 2, "EncoderUNet")
        features = [padded]
        features.extend(self.encoder(padded, self.levels))
        return crop_sides(self.head(self.decoder(features, self.levels - 1)), image)
