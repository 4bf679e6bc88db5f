"""The encoder of TransUNet: a convolutional stem followed by a transformer."""

import torch
from torch import nn

from pipeline.networks.transunet.stem import ResNetV2Stem
from pipeline.networks.transunet.transformer import VisionTransformer


class HybridEncoder(nn.Module):
    """Hybrid ViT of Dosovitskiy et al. 2020 (arXiv:2010.11929): a ViT over the last map of a ResNet.

    Args:
        stem: gives features at 1/16 and those for the decoder.
        transformer: takes the features at 1/16.
    """

    def __init__(self, stem: ResNetV2Stem, transformer: VisionTransformer) -> None:
        super().__init__()
        self.stem = stem
        self.transformer = transformer

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Compute features.

        Args:
            x: images ``(B, in_channels, H, W)``, H and W multiples of 16.

        Returns:
            The transformer's map ``(B, hidden_size, H / 16, W / 16)``, and the stem's at 1/8, 1/4 and 1/2.
        """
        x, skips = self.stem(x)
        return self.transformer(x), skips
