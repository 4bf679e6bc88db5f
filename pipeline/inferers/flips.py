"""Test-time augmentation by flips, as a wrapper around any MONAI inferer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer

__all__ = ["FlipAverageInferer"]


class FlipAverageInferer(Inferer):
    """Run another inferer on the image and on mirrored copies of it, and average the outputs flipped back.

    What is averaged is the network's output: logits here, since the activation comes later.

    Args:
        inferer: the inferer that is run.
        flips: one entry a mirrored copy: the spatial axes (0 is the first after the channels) to flip together.
            Without entries the inferer runs once, as it is.

    Raises:
        ValueError: an entry names no axis, or a negative one.

    Example:
        >>> import torch
        >>> from monai.inferers import SimpleInferer
        >>> inferer = FlipAverageInferer(SimpleInferer(), flips=[[1]])
        >>> inferer(torch.tensor([[[[1.0, 2.0]]]]), lambda image: image * torch.tensor([1.0, 3.0])).tolist()
        [[[[2.0, 4.0]]]]
    """

    def __init__(self, inferer: Inferer, flips: Sequence[Sequence[int]] = ()) -> None:
        super().__init__()
        if any(len(axes) == 0 or min(axes) < 0 for axes in flips):
            raise ValueError(f"every entry of flips must list spatial axes from 0, got {list(flips)}")
        self.inferer = inferer
        self.dims = [tuple(axis + 2 for axis in axes) for axes in flips]  # behind batch and channels

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Run ``inferer(inputs, network)`` on all copies.

        Args:
            inputs: ``(B, C, *spatial)``.
            network: the network.
            args: passed on.
            kwargs: passed on.

        Returns:
            The mean of the outputs, of the shape that the inferer gives.
        """
        total = self.inferer(inputs, network, *args, **kwargs)
        for dims in self.dims:
            mirrored = self.inferer(torch.flip(inputs, dims), network, *args, **kwargs)
            total = total + torch.flip(mirrored, dims)
        return total / (1 + len(self.dims))
