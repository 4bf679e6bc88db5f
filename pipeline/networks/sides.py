"""Sides of an image that a network's encoder cannot halve as often as it has levels."""

import torch
import torch.nn.functional as F


def pad_sides(image: torch.Tensor, stride: int, channels: int, dims: int, network: str) -> torch.Tensor:
    """Pad ``(B, channels, *spatial)`` at the end of every side to a multiple of the stride, with its border's values.

    Raises:
        ValueError: the image has other channels or axes than the named network takes, or a side is below the stride.
    """
    if image.dim() != dims + 2 or image.shape[1] != channels:
        raise ValueError(f"{network} takes (batch, {channels} channels, {dims} sides), got {list(image.shape)}")
    if min(image.shape[2:]) < stride:
        raise ValueError(
            f"image of size {list(image.shape[2:])} is too small for {network}: its encoder divides every "
            f"side by {stride}, so each must be at least {stride}"
        )
    pad: list[int] = []
    for axis in range(image.dim() - 1, 1, -1):
        pad.append(0)
        pad.append((stride - image.shape[axis] % stride) % stride)
    return F.pad(image, pad, mode="replicate") if max(pad) > 0 else image


def crop_sides(output: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Crop a network's output to the image that it was computed from, before padding."""
    for axis in range(2, image.dim()):
        output = output.narrow(axis, 0, image.shape[axis])
    return output
