"""The U-Net as published in 2015: unpadded convolutions, so the output is smaller than the input."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from monai.networks.layers.factories import Conv, Dropout, Pool
from monai.networks.layers.utils import get_norm_layer
from torch import nn

Norm = tuple[str, dict[str, Any]] | str | None


def fits(n: int, depth: int = 4) -> bool:
    """Return whether an input of ``n`` pixels along an axis fits a :class:`UNet2015` with ``depth`` poolings.

    Every pooling needs an even number of pixels, and at least one pixel must remain at the end; with four poolings
    these are the sizes 188, 204, 220, ... (``12 + 16 k``).

    Example:
        >>> fits(572), fits(571), fits(172)
        (True, False, False)
    """
    return n > _margins(depth) and (n + 4) % (1 << depth) == 0


def valid_output_size(n: int, depth: int = 4) -> int:
    """Return the output's size for an input of ``n`` pixels along an axis: ``n - (12 * 2**depth - 8)``.

    Args:
        n: input size in pixels.
        depth: number of poolings.

    Raises:
        ValueError: an input of ``n`` pixels does not fit; the message has the nearest sizes that do.

    Example:
        >>> valid_output_size(572)
        388
        >>> valid_output_size(512)
        Traceback (most recent call last):
        ...
        ValueError: an input of 512 pixels does not fit 4 poolings without padding; 508 and 524 pixels do
    """
    if not fits(n, depth):
        raise ValueError(f"an input of {n} pixels does not fit {depth} poolings without padding; {_near(n, depth)}")
    return n - _margins(depth)


def next_input_size(n_output: int, depth: int = 4) -> int:
    """Return the smallest input size, in pixels along an axis, whose output has at least ``n_output`` pixels.

    Args:
        n_output: wanted output size in pixels.
        depth: number of poolings.

    Raises:
        ValueError: ``n_output`` is below 1.

    Example:
        >>> next_input_size(388), next_input_size(389)
        (572, 588)
    """
    if n_output < 1:
        raise ValueError(f"n_output must be at least 1 pixel, got {n_output}")
    n = n_output + _margins(depth)
    return n + -(n + 4) % (1 << depth)  # every pooling has an even input if (n + 4) is a multiple of 2**depth


def _margins(depth: int) -> int:
    """Return the pixels lost along an axis: 4 at the lowest level; every level above doubles that and adds 8."""
    return 12 * (1 << depth) - 8


def _near(n: int, depth: int) -> str:
    """Describe the sizes next to ``n`` that fit."""
    step = 1 << depth
    below = n - (n + 4) % step
    if fits(below, depth):
        return f"{below} and {below + step} pixels do"
    return f"the smallest that does has {next_input_size(1, depth)} pixels"


class UNet2015(nn.Module):
    """U-Net of Ronneberger, Fischer and Brox 2015 (arXiv:1505.04597), figure 1.

    Two unpadded 3x3 convolutions with ReLU at each level, 2x2 max pooling on the way down, 2x2 up-convolution to half
    the channels on the way up, the level's own features cropped at the centre and concatenated, and a 1x1 convolution
    at the end. Dropout follows the last two levels of the contracting path, as in the authors' release (the paper says
    "drop-out layers at the end of the contracting path"). Weights are drawn with a standard deviation of
    ``sqrt(2 / N)``, N the number of inputs of a neuron (section 3), biases are 0. As in the figure, no ReLU follows an
    up-convolution (the release has one).

    MONAI's namesakes ``UNet`` (residual units, strided convolutions) and ``BasicUNet`` (padding, norm layers) give an
    output of the input's size. Here it is smaller by ``12 * 2**depth - 8`` pixels along each axis, 92 on each side
    with four poolings, and every output pixel has seen only true pixels: 572 pixels become 388. Whole images go through
    :class:`pipeline.inferers.OverlapTileInferer`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        channels: features of each level, from the top; one pooling less than there are levels.
        dropout: probability with which a feature is zeroed in training, at the last two levels.
        norm: normalisation after each 3x3 convolution, by MONAI's names, such as "batch"; the paper has none. "batch"
            keeps the tiles of an image seamless; "instance" and "group" depend on the tile, so they do not.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> network = UNet2015(channels=(2, 4, 8))
        >>> network.valid_output_size(60)
        20
        >>> network(torch.zeros(1, 1, 60, 44)).shape
        torch.Size([1, 1, 20, 4])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        dropout: float = 0.5,
        norm: Norm = None,
    ) -> None:
        super().__init__()
        _check_arguments(spatial_dims, in_channels, out_channels, channels, dropout)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.depth = len(channels) - 1
        self.down = nn.ModuleList(
            _two_convolutions(spatial_dims, before, after, norm)
            for before, after in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        self.pool: nn.Module = Pool[Pool.MAX, spatial_dims](kernel_size=2, stride=2)
        self.drop: nn.Module = Dropout[Dropout.DROPOUT, 1](dropout)  # single features, whatever the dimensions
        steps = [(channels[level + 1], channels[level]) for level in reversed(range(self.depth))]
        up_convolution = Conv[Conv.CONVTRANS, spatial_dims]
        self.up = nn.ModuleList(up_convolution(below, here, kernel_size=2, stride=2) for below, here in steps)
        self.merge = nn.ModuleList(_two_convolutions(spatial_dims, 2 * here, here, norm) for _, here in steps)
        self.out: nn.Module = Conv[Conv.CONV, spatial_dims](channels[0], out_channels, kernel_size=1)
        self.apply(_initialize)

    def fits(self, n: int) -> bool:
        """Return whether an input of ``n`` pixels along an axis fits."""
        return fits(n, self.depth)

    def valid_output_size(self, n: int) -> int:
        """Return the output's size for an input of ``n`` pixels along an axis.

        Raises:
            ValueError: an input of ``n`` pixels does not fit.
        """
        return valid_output_size(n, self.depth)

    def next_input_size(self, n_output: int) -> int:
        """Return the smallest input size whose output has at least ``n_output`` pixels along an axis."""
        return next_input_size(n_output, self.depth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits for the centre of an image.

        Args:
            x: ``(B, in_channels, *spatial)``, every spatial size one that :meth:`fits`.

        Returns:
            Logits ``(B, out_channels, *spatial)``, smaller by ``12 * 2**depth - 8`` along each axis.

        Raises:
            ValueError: the input has another number of axes or channels, or a size that does not fit.
        """
        self._check_input(x)
        skips: list[torch.Tensor] = []
        for level, convolve in enumerate(self.down):
            if level > 0:
                x = self.pool(x)
            x = convolve(x)
            if level >= self.depth - 1:
                x = self.drop(x)
            skips.append(x)
        for step, (enlarge, convolve) in enumerate(zip(self.up, self.merge)):  # noqa: B905  TorchScript has no strict
            x = enlarge(x)
            x = convolve(torch.cat([_crop_centre(skips[self.depth - 1 - step], x), x], dim=1))
        return self.out(x)

    def _check_input(self, x: torch.Tensor) -> None:
        if x.dim() != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"expected an input (B, {self.in_channels}, *spatial) with {self.spatial_dims} spatial axes, "
                f"got {list(x.shape)}"
            )
        for axis in range(2, x.dim()):
            valid_output_size(x.shape[axis], self.depth)


def _check_arguments(
    spatial_dims: int, in_channels: int, out_channels: int, channels: Sequence[int], dropout: float
) -> None:
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}")
    if min(in_channels, out_channels) < 1:
        raise ValueError(f"in_channels and out_channels must be at least 1, got {in_channels} and {out_channels}")
    if len(channels) < 2 or min(channels) < 1:
        raise ValueError(f"channels must name at least two levels of at least 1 channel, got {list(channels)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")


def _two_convolutions(spatial_dims: int, before: int, after: int, norm: Norm) -> nn.Sequential:
    convolution = Conv[Conv.CONV, spatial_dims]
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers.append(convolution(channels, after, kernel_size=3))
        if norm:
            layers.append(get_norm_layer(norm, spatial_dims, after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _crop_centre(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Cut the centre of ``features`` to the spatial size of ``like``."""
    for axis in range(2, features.dim()):
        size = like.shape[axis]
        features = features.narrow(axis, (features.shape[axis] - size) // 2, size)
    return features


@torch.no_grad()
def _initialize(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Conv3d)):
        n_inputs = module.in_channels * module.kernel_size[0] ** len(module.kernel_size)
    elif isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
        n_inputs = module.in_channels  # stride = kernel size: one input pixel reaches each output pixel
    else:
        return
    nn.init.normal_(module.weight, std=(2 / n_inputs) ** 0.5)
    nn.init.zeros_(cast(torch.Tensor, module.bias))
