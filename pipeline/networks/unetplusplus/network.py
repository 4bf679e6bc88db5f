"""UNet++: a U-Net whose skip connections are filled with nested, densely connected convolutions."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from torch import nn

from pipeline.flags import read_flag
from pipeline.networks.encoders import Encoder, PlainEncoder, load_encoder_weights, make_encoder
from pipeline.networks.encoders.plain import double_convolution, initialize
from pipeline.networks.sides import crop_sides, pad_sides
from pipeline.networks.unetplusplus.nodes import make_nodes, make_upsampling

#: of segmentation-models: the last node of each level, from the coarsest, and the image's own size
_DECODER_CHANNELS = (256, 128, 64, 32, 16)


class UNetPlusPlus(nn.Module):
    r"""UNet++ (Zhou et al. 2018, https://arxiv.org/abs/1807.10165; 2020, https://arxiv.org/abs/1912.05074).

    Unlike MONAI's ``BasicUNetPlusPlus`` it returns one tensor (a list only when it trains with deep supervision), has
    BatchNorm, takes images of any size and pretrained encoders, and can be pruned.

    Node :math:`X^{i,j}` of level i and column j convolves all earlier nodes of its level and the upsampled node below:

    .. math:: X^{i,j} = H([U(X^{i+1,j-1}), X^{i,0}, \ldots, X^{i,j-1}])

    Column 0 is the encoder. Columns 0 to j are a network with j halvings, whose output can be supervised, and used
    alone ("pruned to level j"). With L columns the plain encoder halves the image L times; a named one L + 1 times,
    since its finest level is already half the image's size: there one more upsampling leads to the image's own size.

    Sides that are not multiples of the coarsest stride are padded with their border's values; the output is cropped.

    Args:
        spatial_dims: 2 or 3; named encoders are for 2.
        in_channels: channels of the image.
        out_channels: channels of the output (logits).
        channels: of the plain encoder's levels, the finest first; the same for every node of a level.
        encoder: name of an encoder (`pipeline.networks.encoders.list_encoders`) in place of the plain one.
        encoder_depth: number of times that a named encoder halves the image, 2 to 5.
        encoder_frozen: number of the encoder's stages, the finest first, that do not train; True for all.
        encoder_frozen_norm: the encoder's BatchNorm keeps scale, shift and statistics.
        decoder_channels: channels of each level's last node, the coarsest first. By default those of ``channels``; with
            a named encoder (256, 128, 64, 32, 16) as in segmentation-models, of which a smaller depth takes the last.
        deep_supervision: in training return a list with the output of every column, all of the image's size, the last
            column first, as MONAI's ``DeepSupervisionLoss`` takes it.
        pruning_level: in evaluation return the output of this column, 1 to L, and compute only its nodes; columns
            below L need ``deep_supervision``.
        norm: MONAI's name of the normalisation, with arguments or without; None for none.
        act: MONAI's name of the activation.
        dropout: probability of a feature to be zeroed in training, after each normalisation.
        upsample: "deconv" (2x2 transposed convolution, as in the paper's code), "nearest" or "bilinear" (trilinear in
            3-D); by default "deconv" with the plain encoder, "nearest" with a named one.

    Raises:
        ValueError: an argument is out of range.
        InputError: no encoder has this name.

    Example:
        >>> network = UNetPlusPlus(2, 1, 1, channels=[4, 8, 16], deep_supervision=True)
        >>> [tuple(output.shape) for output in network(torch.zeros(2, 1, 30, 21))]
        [(2, 1, 30, 21), (2, 1, 30, 21)]
        >>> network.eval()(torch.zeros(2, 1, 30, 21)).shape
        torch.Size([2, 1, 30, 21])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        encoder: str | None = None,
        encoder_depth: int = 5,
        encoder_frozen: bool | int | str = 0,
        encoder_frozen_norm: bool | str = False,
        decoder_channels: Sequence[int] | None = None,
        deep_supervision: bool | str = False,
        pruning_level: int | None = None,
        norm: str | Sequence[Any] | None = "batch",
        act: str | Sequence[Any] | None = ("relu", {"inplace": True}),
        dropout: float = 0.0,
        upsample: str | None = None,
    ) -> None:
        super().__init__()
        _check_arguments(spatial_dims, in_channels, out_channels)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.deep_supervision = read_flag(deep_supervision, "deep_supervision")
        self.encoder: Encoder
        if encoder is None:
            self.encoder = _make_plain_encoder(spatial_dims, in_channels, channels, norm, act, dropout)
        else:
            self.encoder = _make_named_encoder(spatial_dims, in_channels, encoder, encoder_depth)
        self.encoder.freeze(encoder_frozen, encoder_frozen_norm)
        self.stride = max(self.encoder.strides)
        self.columns = len(self.encoder.channels) - 1
        self.pruning_level = _choose_pruning(pruning_level, self.columns, self.deep_supervision)

        last = _choose_decoder_channels(decoder_channels, self.encoder)
        upsample = upsample or ("deconv" if encoder is None else "nearest")
        convolve = partial(double_convolution, spatial_dims, norm=norm, act=act, dropout=dropout)
        nodes = make_nodes(spatial_dims, self.encoder.channels, last[: self.columns], upsample, convolve)
        self.nodes: Any = nn.ModuleDict({f"x_{node.level}_{node.column}": node for node in nodes})
        self.full_size: nn.Module = nn.Identity()
        if self.encoder.strides[0] == 2:
            lift = make_upsampling(upsample, spatial_dims, last[0], last[0])
            self.full_size = nn.Sequential(lift, convolve(last[0], last[-1]))
        self.head, self.extra_heads = self._make_heads(last[0] if encoder is None else last[-1], out_channels)

    def _make_heads(self, channels: int, out_channels: int) -> tuple[nn.Module, nn.ModuleList]:
        """Make the head of the last column, and those of the columns before it, the last first."""
        size = 1 if self.encoder.strides[0] == 1 else 3  # as in the paper and in segmentation-models
        make = partial(Conv[Conv.CONV, self.spatial_dims], out_channels=out_channels, kernel_size=size, padding="same")
        head = make(channels)
        extra = nn.ModuleList(make(self.encoder.channels[0]) for _ in range(self.columns - 1) if self.deep_supervision)
        initialize(head)
        initialize(extra)
        return head, extra

    def load_encoder_weights(self, weights: str | Path, partial: bool | str = False) -> None:
        """Load pretrained weights into the encoder with :func:`pipeline.networks.load_encoder_weights`."""
        load_encoder_weights(self.encoder, weights, partial=partial)

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Compute logits.

        Args:
            image: ``(B, in_channels, *spatial)``, every side at least as long as the coarsest stride.

        Returns:
            ``(B, out_channels, *spatial)``; in training with deep supervision a list of them, the last column's first.

        Raises:
            ValueError: the image has other channels or axes, or is too small.
        """
        padded = pad_sides(image, self.stride, self.in_channels, self.spatial_dims, "UNetPlusPlus")
        columns = self.columns if self.training else self.pruning_level
        rows = [[level] for level in self.encoder(padded, columns + 1)]
        for node in self.nodes.values():
            if node.level + node.column <= columns:
                rows[node.level].append(node(rows[node.level + 1][-1], rows[node.level]))
        # TorchScript needs one type of result, so the list exists in Python only
        if not torch.jit.is_scripting() and self.training and self.deep_supervision:  # type: ignore[attr-defined]
            wanted = range(columns, 0, -1)
            return [crop_sides(self._make_output(rows[0][column], column, padded), image) for column in wanted]
        return crop_sides(self._make_output(rows[0][-1], columns, padded), image)

    def _make_output(self, features: torch.Tensor, column: int, padded: torch.Tensor) -> torch.Tensor:
        """Return a column's logits, at the image's size, from its features at the finest level."""
        if column == self.columns:
            return self.head(self.full_size(features))
        logits = features
        for index, head in enumerate(self.extra_heads):
            if index == self.columns - 1 - column:
                logits = head(features)
        if logits.shape[2:] == padded.shape[2:]:
            return logits
        # only for named encoders, which are 2-D
        return F.interpolate(logits, size=padded.shape[2:], mode="bilinear", align_corners=False)


def _check_arguments(spatial_dims: int, in_channels: int, out_channels: int) -> None:
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
    if min(in_channels, out_channels) < 1:
        raise ValueError(f"in_channels and out_channels must be at least 1, got {in_channels} and {out_channels}")


def _make_plain_encoder(spatial_dims: int, in_channels: int, channels: Sequence[int], *settings: Any) -> Encoder:
    if len(channels) < 2 or min(channels) < 1:
        raise ValueError(f"channels must have at least two levels of at least one channel, got {list(channels)}")
    return PlainEncoder(spatial_dims, in_channels, channels, *settings)


def _make_named_encoder(spatial_dims: int, in_channels: int, name: str, depth: int) -> Encoder:
    if spatial_dims != 2:
        raise ValueError(f"the encoder {name!r} is for spatial_dims 2, got {spatial_dims}; leave encoder out in 3-D")
    encoder = make_encoder(name, in_channels, depth)
    if depth < 2:
        raise ValueError(f"encoder_depth must be from 2 to 5, got {depth}")
    return encoder


def _choose_decoder_channels(decoder_channels: Sequence[int] | None, encoder: Encoder) -> list[int]:
    """Return the channels of each level's last node, the finest first, then those at the image's size if any."""
    plain = encoder.strides[0] == 1
    count = len(encoder.channels) - 1 if plain else len(encoder.channels)
    if decoder_channels is None:
        decoder_channels = encoder.channels[:count][::-1] if plain else _DECODER_CHANNELS[-count:]
    if len(decoder_channels) != count or min(decoder_channels) < 1:
        raise ValueError(
            f"decoder_channels must have {count} entries of at least 1, the coarsest level first, "
            f"got {list(decoder_channels)}"
        )
    if plain:
        return list(decoder_channels)[::-1]
    return [*list(decoder_channels)[-2::-1], decoder_channels[-1]]


def _choose_pruning(pruning_level: int | None, columns: int, deep_supervision: bool) -> int:
    if pruning_level is None or pruning_level == columns:
        return columns
    if not 1 <= pruning_level < columns:
        raise ValueError(f"pruning_level must be from 1 to {columns}, got {pruning_level}")
    if not deep_supervision:
        raise ValueError(
            f"pruning_level {pruning_level} needs deep_supervision: without it only column {columns} has an output"
        )
    return pruning_level
