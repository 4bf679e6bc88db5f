"""Flips, affine and elastic transforms of a batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    CenterSpatialCropd,
    Rand2DElasticd,
    RandAffined,
    RandAffineGrid,
    RandFlipd,
    SqueezeDimd,
)
from monai.transforms.utils import create_rotate, create_scale, create_shear, create_translate
from monai.utils import TransformBackends, fall_back_tuple
from torch.nn import functional

from pipeline.transforms.batched.sampling import MODES, PADDINGS, Origins, put, take

Batch = dict[Any, torch.Tensor]


class Moves:
    """Flips and at most one affine transform that follow each other, done in one step.

    A flip is a matrix too. So an image is interpolated once, and an image that is only flipped not at all.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._keys: tuple[Any, ...] = ()
        self._matrices = np.empty(0)
        self._affine: RandAffined | None = None
        self._moved: list[bool] = []

    def add(self, step: RandAffined | RandFlipd, batch: Batch) -> None:
        """Draw the step for every image and keep it; what cannot be joined with it is done first."""
        keys = tuple(step.key_iterator(batch))
        if self._keys and (keys != self._keys or (isinstance(step, RandAffined) and self._affine is not None)):
            self.apply(batch)
        if not keys:
            return
        count, dimensions = len(batch[keys[0]]), batch[keys[0]].ndim - 2
        if not self._keys:
            self._keys = keys
            self._matrices = np.stack([np.eye(dimensions + 1)] * count)
            self._moved = [False] * count
        if isinstance(step, RandAffined):
            self._affine = step
        for number in range(count):
            matrix = _draw(step, dimensions, len(keys))
            if matrix is not None:
                self._matrices[number] = self._matrices[number] @ matrix
                self._moved[number] |= isinstance(step, RandAffined)

    def apply(self, batch: Batch) -> None:
        """Do what was kept."""
        keys, matrices, affine, moved = self._keys, self._matrices, self._affine, self._moved
        self._forget()
        chosen = [number for number, is_moved in enumerate(moved) if is_moved]
        if affine is not None and chosen:
            images = batch[keys[0]]
            moved_by = torch.from_numpy(matrices[chosen]).to(images.device)
            _replace(affine, batch, chosen, Origins(images.shape[2:], matrices=moved_by))
        for number, is_moved in enumerate(moved):
            axes = [] if is_moved else [a for a, sign in enumerate(matrices[number].diagonal()[:-1], 1) if sign < 0]
            for key in keys if axes else ():
                batch[key][number] = batch[key][number].flip(axes)


def _replace(step: Any, batch: Batch, chosen: Sequence[int], origins: Origins) -> None:
    for key, mode, padding in step.key_iterator(batch, step.mode, step.padding_mode):
        batch[key] = put(batch[key], chosen, origins.read(take(batch[key], chosen), mode, padding))


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


def _draw(step: RandAffined | RandFlipd, dimensions: int, items: int) -> np.ndarray | None:
    """Draw as MONAI does, the same numbers; return the matrix, or None if the image stays as it is."""
    step.randomize(None)
    if isinstance(step, RandFlipd):
        return _make_flip(step, dimensions) if step._do_transform else None
    affine, grid = step.rand_affine, step.rand_affine.rand_affine_grid
    affine.randomize()
    if not step._do_transform:
        return None
    # MONAI draws the grid twice, and again for every item without using it.
    grid.randomize()
    matrix = _make_matrix(grid, dimensions)
    for _ in range(items):
        affine.randomize()
    return matrix


def _make_flip(step: RandFlipd, dimensions: int) -> np.ndarray:
    chosen = step.flipper.spatial_axis
    axes = range(dimensions) if chosen is None else [chosen] if isinstance(chosen, int) else chosen
    matrix = np.eye(dimensions + 1)
    for axis in axes:
        matrix[axis % dimensions, axis % dimensions] = -1
    return matrix


def _make_matrix(grid: RandAffineGrid, dimensions: int) -> np.ndarray:
    """Return what MONAI's ``AffineGrid`` makes of the last draw, in NumPy, which is faster for such small matrices."""
    matrix = np.eye(dimensions + 1)
    for create, numbers in (
        (create_rotate, grid.rotate_params),
        (create_shear, grid.shear_params),
        (create_translate, grid.translate_params),
        (create_scale, grid.scale_params),
    ):
        if numbers:
            matrix = matrix @ create(dimensions, numbers, backend=TransformBackends.NUMPY)
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
    _replace(step, batch, chosen, Origins(shape, positions=fine))


def _draw_grid(elastic: Any, shape: Sequence[int]) -> torch.Tensor:
    device, elastic.deform_grid.device = elastic.deform_grid.device, torch.device("cpu")
    grid = elastic.deform_grid(spatial_size=shape)
    elastic.deform_grid.device = device
    elastic.rand_affine_grid.randomize()
    matrix = torch.from_numpy(_make_matrix(elastic.rand_affine_grid, 2)).to(grid.dtype)
    return (matrix @ grid.reshape(3, -1)).reshape(grid.shape)[:2]


def crop_centre(step: CenterSpatialCropd, batch: Batch) -> None:
    """Cut out the centre."""
    for key in step.key_iterator(batch):
        slices = step.cropper.compute_slices(batch[key].shape[2:])
        batch[key] = batch[key][(slice(None), slice(None), *slices)]


def squeeze(step: SqueezeDimd, batch: Batch) -> None:
    """Leave out an axis of length one; channels are axis 0."""
    axis = step.converter.dim
    for key in step.key_iterator(batch):
        axes = range(1, batch[key].ndim) if axis is None else [axis if axis < 0 else axis + 1]
        batch[key] = batch[key].squeeze(tuple(axes))
