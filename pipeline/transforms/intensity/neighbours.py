"""Neighbouring slices as channels: context for 2-D networks ("2.5-D")."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

__all__ = ["NeighbourSlicesToChannels", "NeighbourSlicesToChannelsd"]


class NeighbourSlicesToChannels(Transform):
    """Give every slice of a volume its neighbours as further channels.

    Channels come slice by slice, from ``before`` slices ahead to ``after`` behind. At both ends of the volume the
    outermost slice is repeated, so a stack of one slice sees itself as its own neighbour.

    Args:
        before: slices taken ahead of each slice.
        after: slices taken behind it.

    Example:
        >>> import torch
        >>> volume = torch.arange(3.0).reshape(1, 1, 1, 3)  # one voxel a slice: 0, 1, 2
        >>> NeighbourSlicesToChannels()(volume)[:, 0, 0].T.tolist()
        [[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 2.0]]
    """

    def __init__(self, before: int = 1, after: int = 1) -> None:
        if before < 0 or after < 0:
            raise ValueError(f"before and after must not be negative, got {before} and {after}")
        self.before = before
        self.after = after

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """Stack the neighbours.

        Args:
            volume: ``(C, H, W, D)``.

        Returns:
            ``((before + 1 + after) * C, H, W, D)``; meta data and the record of earlier transforms are kept.

        Raises:
            ValueError: the volume is not 4-dimensional.
        """
        if volume.ndim != 4:
            raise ValueError(f"expected a volume (C, H, W, D), got shape {tuple(volume.shape)}")
        plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
        depth = plain.shape[-1]
        positions = torch.arange(depth, device=plain.device)
        shifted = [
            plain.index_select(-1, (positions + offset).clamp(0, depth - 1))
            for offset in range(-self.before, self.after + 1)
        ]
        stacked = torch.cat(shifted, dim=0)
        if isinstance(volume, MetaTensor):
            return MetaTensor(stacked, meta=volume.meta, applied_operations=volume.applied_operations)
        return stacked


class NeighbourSlicesToChannelsd(MapTransform):
    """Dictionary version of :class:`NeighbourSlicesToChannels`.

    Args:
        keys: items that hold volumes ``(C, H, W, D)``.
        before: slices taken ahead of each slice.
        after: slices taken behind it.
        allow_missing_keys: skip keys that a case does not have.
    """

    def __init__(self, keys: KeysCollection, before: int = 1, after: int = 1, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.stack = NeighbourSlicesToChannels(before, after)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Stack the neighbours of the volume under each key."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.stack(result[key])
        return result
