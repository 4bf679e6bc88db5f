"""TransUNet: a U-Net whose encoder is a ResNet-50 followed by a vision transformer."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from pipeline.networks.transunet.decoder import CascadedUpsampler
from pipeline.networks.transunet.encoder import HybridEncoder
from pipeline.networks.transunet.stem import GROUPS, ResNetV2Stem
from pipeline.networks.transunet.transformer import VisionTransformer
from pipeline.networks.transunet.vit_weights import load_vit_npz

#: The encoder divides an image's sides by this
STRIDE = 16
#: Two pixels at 1/16; with one pixel, a norm would see a single value
SMALLEST = 32


class TransUNet(nn.Module):
    """TransUNet of Chen et al. 2021 (arXiv:2102.04306), by default its R50-ViT-B_16.

    A ResNet-50 stem gives 1024 channels at 1/16 of the image; each pixel there becomes a token of a ViT-B with 12
    layers; the decoder doubles the size four times and joins the stem's features at 1/8, 1/4 and 1/2 on the way; a 3x3
    convolution gives the logits. The design and its constants are those of the authors' release
    (github.com/Beckschen/TransUNet): 105 276 066 parameters with 2 classes at 224x224.

    MONAI's are the attention (``SABlock``), the MLPs (``MLPBlock``) and the decoder's convolutions (``Convolution``);
    this package has the stem, the layer around attention and MLP, and the embeddings, which MONAI lacks.

    Images have any size from 32x32 pixels: sides that are not multiples of 16 are padded at the far end with copies of
    the last row or column, and the logits are cropped. Position embeddings are interpolated when the image's size is
    not ``img_size``. The release repeats grey images to three channels; here the stem takes ``in_channels``.

    With :meth:`load_encoder_weights` (in a config: :class:`pipeline.handlers.EncoderWeightsLoader`) the encoder starts
    from Google's ViT, which expects images from -1 to 1: ``(x / 255 - 0.5) / 0.5``.

    Args:
        spatial_dims: 2; the 3-D TransUNet is another network.
        in_channels: channels of the image.
        out_channels: channels of the output (logits).
        img_size: pixels (one number, or rows and columns) that the position embeddings are made for, e.g. 224.
        hidden_size: channels of a token, a multiple of ``num_heads``.
        num_layers: layers of the transformer.
        num_heads: attention heads.
        mlp_dim: channels inside the transformer's MLPs.
        dropout_rate: of embeddings and MLPs in training.
        attention_dropout_rate: of attention in training.
        block_units: residual units of the stem's three blocks.
        width_factor: the stem's channels, as a multiple of ResNet-50's; a multiple of 0.5.
        head_channels: channels between transformer and decoder.
        decoder_channels: channels of the decoder at 1/8, 1/4, 1/2 and full size.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> network = TransUNet(
        ...     out_channels=2, img_size=64, hidden_size=16, num_layers=1, num_heads=2, mlp_dim=16,
        ...     block_units=(1, 1, 1), width_factor=0.5, head_channels=8, decoder_channels=(8, 4, 4, 4),
        ... )
        >>> network.eval()(torch.zeros(1, 3, 64, 72)).shape
        torch.Size([1, 2, 64, 72])
        >>> network(torch.zeros(1, 3, 24, 64))
        Traceback (most recent call last):
        ...
        ValueError: an image of 24x64 pixels is too small for TransUNet; both sides need at least 32
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        img_size: int | Sequence[int] = (224, 224),
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_dim: int = 3072,
        dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
        block_units: Sequence[int] = (3, 4, 9),
        width_factor: float = 1,
        head_channels: int = 512,
        decoder_channels: Sequence[int] = (256, 128, 64, 16),
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(f"TransUNet has 2 spatial dimensions, got spatial_dims={spatial_dims}")
        _check_at_least_one(
            in_channels=[in_channels],
            out_channels=[out_channels],
            num_layers=[num_layers],
            mlp_dim=[mlp_dim],
            head_channels=[head_channels],
        )
        _check_at_least_one(length=3, block_units=block_units)
        _check_at_least_one(length=4, decoder_channels=decoder_channels)
        _check_transformer(hidden_size, num_heads, dropout_rate, attention_dropout_rate)
        width = _read_width(width_factor)
        self.in_channels = in_channels
        self.stride = STRIDE  # TorchScript takes no constants from outside
        self.smallest = SMALLEST
        grid, rates = _read_grid(img_size), (dropout_rate, attention_dropout_rate)
        self.encoder = HybridEncoder(
            ResNetV2Stem(in_channels, block_units, width),
            VisionTransformer(16 * width, grid, hidden_size, num_layers, num_heads, mlp_dim, *rates),
        )
        self.decoder = CascadedUpsampler(hidden_size, head_channels, (8 * width, 4 * width, width), decoder_channels)
        self.head = nn.Conv2d(decoder_channels[-1], out_channels, kernel_size=3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Args:
            x: images ``(B, in_channels, H, W)``, H and W at least 32 pixels.

        Returns:
            Logits ``(B, out_channels, H, W)``.

        Raises:
            ValueError: the input has another number of axes or channels, or is too small.
        """
        self._check_input(x)
        rows, columns = x.shape[2], x.shape[3]
        if rows % self.stride != 0 or columns % self.stride != 0:
            x = F.pad(x, [0, -columns % self.stride, 0, -rows % self.stride], mode="replicate")
        x, skips = self.encoder(x)
        return self.head(self.decoder(x, skips))[:, :, :rows, :columns]

    @torch.jit.unused
    def load_encoder_weights(self, weights: str | Path, partial: bool | str = False) -> None:
        """Load Google's weights into the encoder: :func:`pipeline.networks.transunet.load_vit_npz`."""
        load_vit_npz(self, weights, partial)

    def _check_input(self, x: torch.Tensor) -> None:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"TransUNet expects an input (B, C, H, W) with {self.in_channels} channels, got {list(x.shape)}"
            )
        if min(x.shape[2], x.shape[3]) < self.smallest:
            raise ValueError(
                f"an image of {x.shape[2]}x{x.shape[3]} pixels is too small for TransUNet; "
                f"both sides need at least {self.smallest}"
            )


def _check_at_least_one(length: int = 1, **arguments: Sequence[int]) -> None:
    for name, values in arguments.items():
        if len(values) != length:
            raise ValueError(f"{name} must have {length} numbers, got {list(values)}")
        if min(values) < 1:
            raise ValueError(f"{name} must be at least 1, got {values[0] if length == 1 else list(values)}")


def _check_transformer(hidden_size: int, num_heads: int, dropout_rate: float, attention_dropout_rate: float) -> None:
    if num_heads < 1 or hidden_size < 1 or hidden_size % num_heads != 0:
        raise ValueError(f"hidden_size must be a multiple of num_heads, got {hidden_size} and {num_heads}")
    for name, rate in (("dropout_rate", dropout_rate), ("attention_dropout_rate", attention_dropout_rate)):
        if not 0 <= rate < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {rate}")


def _read_width(width_factor: float) -> int:
    """Return the channels of the stem's first convolution; the group norms take multiples of 32."""
    width = 64 * width_factor
    if width < GROUPS or width % GROUPS != 0:
        raise ValueError(f"width_factor must be a multiple of 0.5, got {width_factor}")
    return int(width)


def _read_grid(img_size: int | Sequence[int]) -> tuple[int, int]:
    """Return rows and columns of the map at 1/16."""
    sides = [img_size, img_size] if isinstance(img_size, int) else list(img_size)
    if len(sides) != 2 or min(sides) < SMALLEST:
        raise ValueError(f"img_size must be one or two numbers from {SMALLEST} pixels on, got {img_size}")
    return -(-sides[0] // STRIDE), -(-sides[1] // STRIDE)
