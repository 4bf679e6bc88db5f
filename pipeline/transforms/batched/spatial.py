"""Flips, affine and elastic transforms of a batch."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.transforms import Rand2DElasticd, RandAffined, RandFlipd
from monai.utils import fall_back_tuple
from torch.nn import functional

from pipeline.transforms.batched.sampling import MODES, PADDINGS, find_positions, put, sample, take

Batch = dict[Any, torch.Tensor]


class Moves:
    """Flips and at most one affine transform that follow each other, done in one step.

    A flip is a matrix too. So an image is interpolated once, and an image that is only flipped not at all.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._keys: tuple[Any, ...] = ()
        self._matrices = torch.empty(0, dtype=torch.float64)
        self._affine: RandAffined | None = None
        self._moved: list[bool] = []

    def add(self, step: RandAffined | RandFlipd, batch: Batch) -> None:
        """Draw the step for every image and keep it; what cannot be joined with it is done first."""
        keys = tuple(step.key_iterator(batch))
        is_affine = isinstance(step, RandAffined)
        if self._keys and (keys != self._keys or (is_affine and self._affine is not None)):
            self.apply(batch)
        if not keys:
            return
        shape = batch[keys[0]].shape
        if not self._keys:
            self._keys = keys
            self._matrices = torch.eye(len(shape) - 1, dtype=torch.float64).repeat(shape[0], 1, 1)
            self._moved = [False] * shape[0]
        if is_affine:
            self._affine = step
        for number in range(shape[0]):
            matrix = _draw_affine(step, shape[2:], keys) if is_affine else _draw_flip(step, len(shape) - 2)
            if matrix is not None:
                self._matrices[number] = self._matrices[number] @ matrix
                self._moved[number] |= is_affine

    def apply(self, batch: Batch) -> None:
        """Do what was kept."""
        keys, matrices, affine, moved = self._keys, self._matrices, self._affine, self._moved
        self._forget()
        chosen = [number for number, is_moved in enumerate(moved) if is_moved]
        if affine is not None and chosen:
            images = batch[keys[0]]
            _replace(affine, batch, chosen, find_positions(matrices[chosen].to(images.device), images.shape[2:]))
        for number, is_moved in enumerate(moved):
            axes = [] if is_moved else [a for a, sign in enumerate(matrices[number].diagonal()[:-1], 1) if sign < 0]
            for key in keys if axes else ():
                batch[key][number] = batch[key][number].flip(axes)


def _replace(step: Any, batch: Batch, chosen: Sequence[int], positions: torch.Tensor) -> None:
    for key, mode, padding in step.key_iterator(batch, step.mode, step.padding_mode):
        batch[key] = put(batch[key], chosen, sample(take(batch[key], chosen), positions, mode, padding))


def is_joinable(step: Any, batch: Batch) -> bool:
    """Say whether `Moves` can do this step: one of its two classes, in a mode and with a padding of torch."""
    if type(step) is RandFlipd:
        return _have_one_shape(step, batch)
    return (
        type(step) is RandAffined
        and step.rand_affine.spatial_size is None
        and _have_one_shape(step, batch)
        and _are_known(step)
    )


def is_elastic(step: Any, batch: Batch) -> bool:
    """Say whether `deform` can do this step."""
    return (
        type(step) is Rand2DElasticd
        and step.rand_2d_elastic.spatial_size is None
        and _have_one_shape(step, batch)
        and _are_known(step)
    )


def _are_known(step: Any) -> bool:
    return set(step.mode) <= set(MODES) and set(step.padding_mode) <= set(PADDINGS)


def _have_one_shape(step: Any, batch: Batch) -> bool:
    return len({batch[key].shape[2:] for key in step.key_iterator(batch)}) == 1


def _draw_affine(step: RandAffined, shape: Sequence[int], keys: Sequence[Any]) -> torch.Tensor | None:
    # MONAI draws the grid twice, and again for every item, without a use. So that its numbers stay, so does this.
    step.randomize(None)
    step.rand_affine.randomize()
    if not step._do_transform:
        return None
    grid = step.rand_affine.rand_affine_grid
    grid(shape, lazy=True)
    matrix = grid.get_transformation_matrix().double()
    for _ in keys:
        step.rand_affine.randomize()
    return matrix


def _draw_flip(step: RandFlipd, dimensions: int) -> torch.Tensor | None:
    step.randomize(None)
    if not step._do_transform:
        return None
    chosen = step.flipper.spatial_axis
    axes = range(dimensions) if chosen is None else [chosen] if isinstance(chosen, int) else chosen
    matrix = torch.eye(dimensions + 1, dtype=torch.float64)
    for axis in axes:
        matrix[axis % dimensions, axis % dimensions] = -1
    return matrix


def deform(step: Rand2DElasticd, batch: Batch) -> None:
    """Deform every drawn image: offsets on a coarse grid, affine, bicubic interpolation in between, as MONAI does."""
    elastic, keys = step.rand_2d_elastic, list(step.key_iterator(batch))
    images = batch[keys[0]]
    shape, chosen, grids = images.shape[2:], list[int](), list[torch.Tensor]()
    for number in range(len(images)):
        step.randomize(None)
        elastic.randomize(shape)
        if step._do_transform:
            chosen.append(number)
            grids.append(_draw_grid(elastic, shape))
    if not chosen:
        return
    spacing = [float(number) for number in fall_back_tuple(elastic.deform_grid.spacing, (1.0,) * 2)]
    coarse = torch.stack(grids).to(images.device)
    fine = functional.interpolate(coarse, scale_factor=spacing, mode="bicubic", recompute_scale_factor=True)
    begin = [many // 2 - few // 2 for many, few in zip(fine.shape[2:], shape, strict=True)]
    fine = fine[:, :, begin[0] : begin[0] + shape[0], begin[1] : begin[1] + shape[1]]
    _replace(step, batch, chosen, fine.float())


def _draw_grid(elastic: Any, shape: Sequence[int]) -> torch.Tensor:
    device, elastic.deform_grid.device = elastic.deform_grid.device, torch.device("cpu")
    grid = elastic.deform_grid(spatial_size=shape)
    elastic.deform_grid.device = device
    affine = elastic.rand_affine_grid
    affine(shape, lazy=True)
    matrix = affine.get_transformation_matrix().to(grid.dtype)
    return (matrix @ grid.reshape(3, -1)).reshape(grid.shape)[:2]
