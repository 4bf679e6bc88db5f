"""Neighbouring slices as channels: context for 2-D networks ("2.5-D")."""

import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from pipeline.transforms.dictionary import DictTransform


class NeighbourSlicesToChannels(Transform):
    """Give every slice of a volume its neighbours as further channels.

    Channels come slice by slice, from the first of the ``before`` slices to the last of the ``after`` slices. At both
    ends of the volume the outermost slice is repeated, so the only slice of a stack is its own neighbour.

    Args:
        before: number of slices taken before each slice.
        after: number of slices taken after it.
        only_centre: give the slice in the middle alone, without its axis, as a 2-D network takes it in training.

    Example:
        >>> volume = torch.arange(3.0).reshape(1, 1, 1, 3)  # one voxel per slice: 0, 1, 2
        >>> NeighbourSlicesToChannels()(volume)[:, 0, 0].T.tolist()
        [[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 2.0]]
        >>> NeighbourSlicesToChannels(only_centre=True)(volume).shape
        torch.Size([3, 1, 1])
    """

    def __init__(self, before: int = 1, after: int = 1, only_centre: bool = False) -> None:
        if before < 0 or after < 0:
            raise ValueError(f"before and after must not be negative, got {before} and {after}")
        self.before = before
        self.after = after
        self.only_centre = only_centre

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """Stack the neighbours.

        Args:
            volume: ``(C, H, W, D)``.

        Returns:
            ``((before + 1 + after) * C, H, W, D)``, without the last axis for ``only_centre``; meta data and the record
            of earlier transforms are kept.

        Raises:
            ValueError: the volume is not 4-dimensional.
        """
        if volume.ndim != 4:
            raise ValueError(f"expected a volume (C, H, W, D), got shape {tuple(volume.shape)}")
        plain, depth = volume.as_subclass(torch.Tensor), volume.shape[-1]
        offsets = range(-self.before, self.after + 1)
        if self.only_centre:
            stacked = torch.cat([plain[..., min(max(depth // 2 + k, 0), depth - 1)] for k in offsets])
        else:
            positions = torch.arange(depth, device=plain.device)
            stacked = torch.cat([plain.index_select(-1, (positions + k).clamp(0, depth - 1)) for k in offsets])
        if isinstance(volume, MetaTensor):
            return MetaTensor(stacked, meta=volume.meta, applied_operations=volume.applied_operations)
        return stacked


class NeighbourSlicesToChannelsd(DictTransform, array=NeighbourSlicesToChannels):
    """Dictionary version of :class:`NeighbourSlicesToChannels`, with the same further arguments.

    Args:
        keys: items that hold volumes ``(C, H, W, D)``.
        allow_missing_keys: skip keys that a case does not have.
    """
