"""``prepare_batch`` of a trainer: a batch moved to the device and augmented there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    RandAdjustContrastd,
    RandCoarseDropoutd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    Randomizable,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SqueezeDimd,
)
from monai.utils import CommonKeys

from pipeline.issues import InputError
from pipeline.transforms.batched import intensity, spatial
from pipeline.transforms.batched.spatial import Batch, Moves, deform, is_elastic, is_joinable
from pipeline.transforms.intensity.neighbours import NeighbourSlicesToChannelsd
from pipeline.transforms.intensity.random_channels import RandCopyChanneld, RandGammaByChanneld

#: What is done with a whole batch. A subclass may do something else, so only these classes themselves count.
_STEPS: dict[type, Callable[[Any, Batch], None]] = {
    CenterSpatialCropd: spatial.crop_centre,
    NeighbourSlicesToChannelsd: intensity.join_slices,
    RandAdjustContrastd: intensity.adjust_contrast,
    RandCoarseDropoutd: intensity.drop_regions,
    RandCopyChanneld: intensity.copy_channels,
    RandGammaByChanneld: intensity.adjust_channels,
    RandGaussianNoised: intensity.add_noise,
    RandGaussianSmoothd: intensity.smooth,
    RandScaleIntensityd: intensity.scale,
    RandShiftIntensityd: intensity.shift,
    SqueezeDimd: spatial.squeeze,
}


class AugmentBatch(Randomizable):
    """Move a batch to the device, augment it there, and return image and label: ``prepare_batch`` of a MONAI trainer.

    The transforms are MONAI's, or ours, for single cases, with their arguments and, in the same order, their random
    numbers, so each image gets what it would get in the loader; only Gaussian noise has other numbers. Flips, affine
    and elastic transforms and changes of intensity are done for the whole batch; any other dictionary transform, random
    or not, is applied to one case after another. Flips and an affine transform that follow each other interpolate once.

    Every item that is a tensor of the batch's length takes part, as float32. Transforms that change the shape must
    give all cases the same one.

    Args:
        transforms: dictionary transforms, in the order in which they are applied.

    Raises:
        InputError: a transform gives the cases of a batch different shapes.

    Example:
        >>> from monai.transforms import RandFlipd
        >>> batch = {"image": torch.tensor([[[1, 2]], [[3, 4]]]), "label": torch.tensor([[[0, 1]], [[1, 0]]])}
        >>> image, label = AugmentBatch([RandFlipd(["image", "label"], prob=1)])(batch, "cpu")
        >>> image.tolist(), label.tolist()
        ([[[2.0, 1.0]], [[4.0, 3.0]]], [[[1.0, 0.0]], [[0.0, 1.0]]])
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = Compose(transforms)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """Seed every transform, as ``Compose`` does."""
        super().set_random_state(seed, state)
        self.transforms.set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Do nothing: the transforms draw."""

    @torch.no_grad()
    def __call__(
        self,
        batchdata: Mapping[Any, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images ``(B, C, *spatial)`` and labels; the batch itself stays as it is.

        Args:
            batchdata: from the loader, with "image" and "label" ``(B, C, *spatial)``.
            device: where the augmentation is computed.
            non_blocking: as in ``torch.Tensor.to``.
            kwargs: more of its arguments.
        """
        batch = {
            key: _move(value, device, non_blocking, **kwargs)
            for key, value in batchdata.items()
            if isinstance(value, torch.Tensor) and value.ndim > 2
        }
        if not self.transforms.transforms:
            return batch[CommonKeys.IMAGE].float(), batch[CommonKeys.LABEL].float()
        if batch[CommonKeys.IMAGE].device.type != "cpu":
            return self._augment(batch)
        # One image after another: it stays in the caches of a CPU, which is faster than the whole batch.
        count = len(batch[CommonKeys.IMAGE])
        cases = [self._augment({key: value[n : n + 1] for key, value in batch.items()}) for n in range(count)]
        images, labels = zip(*cases, strict=True)
        return _join("image", images), _join("label", labels)

    def _augment(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        batch = {key: _copy(value) for key, value in batch.items()}
        moves = Moves()
        for step in self.transforms.transforms:
            if is_joinable(step, batch):
                moves.add(step, batch)
                continue
            moves.apply(batch)
            _apply(step, batch)
        moves.apply(batch)
        return batch[CommonKeys.IMAGE], batch[CommonKeys.LABEL]


def _move(value: torch.Tensor, device: str | torch.device | None, non_blocking: bool, **kwargs: Any) -> torch.Tensor:
    return value.as_subclass(torch.Tensor).to(device=device, non_blocking=non_blocking, **kwargs)


def _copy(value: torch.Tensor) -> torch.Tensor:
    """Return it as float32 in other memory: the steps write into it, and the loader's tensor may be shared."""
    return torch.empty_like(value, dtype=torch.float32, memory_format=torch.contiguous_format).copy_(value)


def _apply(step: Any, batch: Batch) -> None:
    if is_elastic(step, batch):
        deform(step, batch)
    elif type(step) in _STEPS and not any(getattr(step, "factor_key", ())):
        _STEPS[type(step)](step, batch)
    else:
        _apply_to_each(step, batch)


def _apply_to_each(step: Callable[[Any], Any], batch: Batch) -> None:
    count, device = len(next(iter(batch.values()))), next(iter(batch.values())).device
    cases = [step({key: value[number] for key, value in batch.items()}) for number in range(count)]
    for key in set(batch) - set(cases[0]):
        del batch[key]
    for key, before in {key: batch.get(key) for key in cases[0]}.items():
        results = [torch.as_tensor(case[key]).as_subclass(torch.Tensor) for case in cases]
        if before is not None and all(_is_same(result, old) for result, old in zip(results, before, strict=True)):
            continue
        batch[key] = _join(key, [result[None].to(device).float() for result in results])


def _join(key: Any, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    shapes = sorted({tuple(part.shape[1:]) for part in parts})
    if len(shapes) > 1:
        raise InputError(
            f"train#augmentation gives the item {key!r} of one batch the shapes {', '.join(map(str, shapes))}; "
            "all must have one shape: put a step that pads or crops to one size, such as ResizeWithPadOrCropd, "
            "where the shapes become different"
        )
    return torch.cat(list(parts))


def _is_same(result: torch.Tensor, old: torch.Tensor) -> bool:
    return result.data_ptr() == old.data_ptr() and result.shape == old.shape and result.stride() == old.stride()
