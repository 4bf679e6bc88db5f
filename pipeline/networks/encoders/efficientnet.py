"""MONAI's EfficientNet as an encoder."""

import torch
from monai.networks.nets import EfficientNetBNFeatures
from torch import nn

from pipeline.networks.encoders.base import Encoder


class EfficientNetEncoder(Encoder):
    """MONAI's ``EfficientNetBNFeatures`` (Tan and Le 2019, https://arxiv.org/abs/1905.11946), for 2-D images.

    Keys are MONAI's (``_conv_stem``, ``_blocks.0.0._bn1`` ...), so its ``pretrained=True`` downloads fit. The
    classifier and the blocks beyond ``depth`` are removed; the activation is the plain Swish, because the
    memory-efficient one cannot be scripted. The paddings were computed for inputs of the network's native size, so give
    sizes that are multiples of ``strides[-1]``.

    Args:
        model_name: ``"efficientnet-b0"`` to ``"efficientnet-b8"``, ``"efficientnet-l2"``.
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
        network = EfficientNetBNFeatures(model_name, pretrained=False, in_channels=in_channels, num_classes=1)
        network.set_swish(memory_efficient=False)
        # a level ends before the next stack with a stride; MONAI lists the number of stacks before each end
        ends = list(network.extract_stacks)[:depth]
        channels = tuple(int(network._blocks_args[end - 1].output_filters) for end in ends)
        super().__init__(in_channels, channels, (2, 4, 8, 16, 32)[:depth])
        self._ends = ends
        self._conv_stem = network._conv_stem
        self._conv_stem_padding = network._conv_stem_padding
        self._bn0 = network._bn0
        self._swish = network._swish
        self._blocks = nn.Sequential(*list(network._blocks)[: ends[-1]])
        self.stem_key = "_conv_stem.weight"
        beyond = (f"_blocks.{index}." for index in range(ends[-1], len(network._blocks)))
        self.foreign_keys = ("_conv_head.", "_bn1.", "_fc.", *beyond)

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
