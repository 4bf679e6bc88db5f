"""Surface metrics in mm, with voxel sizes from the label's affine and scores for empty masks."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from pipeline.issues import InputError
from pipeline.metrics.label_maps import find_spacing
from pipeline.metrics.labelwise import LabelwiseMetric

_UNITS = ("mm", "voxels")


class _SurfaceMetric(LabelwiseMetric):
    def __init__(
        self,
        labels: int | Sequence[int] = (1,),
        num_classes: int | None = None,
        empty_policy: str = "exclude",
        unit: str = "mm",
        spacing: Sequence[float] | None = None,
    ) -> None:
        super().__init__(labels, num_classes, empty_policy)
        if unit not in _UNITS:
            raise ValueError(f"unit must be one of {', '.join(_UNITS)}, got {unit!r}")
        if spacing is not None and (unit == "voxels" or not all(math.isfinite(s) and s > 0 for s in spacing)):
            raise ValueError(f"spacing must be positive numbers in mm, and unit mm; got {spacing} and {unit}")
        self.unit = unit
        self.spacing = None if spacing is None else tuple(float(size) for size in spacing)

    def _choose_spacing(self, label: Any, index: int) -> tuple[float, ...]:
        axes = label.ndim - 2
        if axes not in (2, 3):
            raise InputError(f"surface metrics take 2-D and 3-D maps, got a label of shape {tuple(label.shape[1:])}")
        if self.unit == "voxels":
            return (1.0,) * axes
        spacing = self.spacing or find_spacing(label, index)
        if spacing is None:
            raise InputError(
                f"{type(self).__name__}: the label has no voxel size; set spacing (mm along each axis), "
                'or unit to "voxels" and say so in the metric\'s name'
            )
        if len(spacing) != axes:
            raise InputError(f"spacing has {len(spacing)} numbers, but the label has {axes} axes")
        return spacing


class HausdorffDistance95(_SurfaceMetric):
    """95th percentile Hausdorff distance in mm of each class, by MONAI's ``compute_hausdorff_distance``.

    MONAI takes the larger of the two directed 95th percentiles of the distances from one surface's voxels to the other
    surface. Other tools pool both directions or weight by area, and differ on small objects.

    MONAI gives NaN if the prediction is empty, so its mean improves when structures are missed. Here such a case, or a
    false positive, gets the diagonal of the image.

    Args:
        labels, num_classes, empty_policy: see `pipeline.metrics.labelwise.LabelwiseMetric`.
        unit: ``"mm"``; or ``"voxels"``, which the metric's name should then contain.
        spacing: mm along each axis, for labels whose files do not contain it.

    Raises:
        InputError: when called: the voxel size is unknown, or as in `LabelwiseMetric`.
        ValueError: an unknown unit, or a spacing that is not positive.

    Example:
        >>> truth, pred = torch.zeros(1, 1, 5), torch.zeros(1, 1, 5)
        >>> truth[..., 1], pred[..., 3] = 1, 1
        >>> metric = HausdorffDistance95(spacing=[1.0, 0.5])
        >>> metric([pred, pred * 0], [truth, truth]).flatten().tolist()
        [1.0, 2.69...]
    """

    best: ClassVar[float] = 0.0

    def _score(self, pred: torch.Tensor, truth: torch.Tensor, spacing: tuple[float, ...] | None) -> float:
        options: Any = {"include_background": True, "percentile": 95, "spacing": spacing}
        return compute_hausdorff_distance(pred[None, None], truth[None, None], **options).item()

    def _score_worst(self, truth: torch.Tensor, spacing: tuple[float, ...] | None) -> float:
        return math.dist([0.0] * truth.ndim, [n * size for n, size in zip(truth.shape, spacing or (), strict=True)])


class SurfaceDice(_SurfaceMetric):
    """Normalised surface Dice: the share of both surfaces that lies within a tolerance of the other.

    Nikolov et al. 2021, by MONAI's ``compute_surface_dice`` with ``use_subvoxels``: the surface lies between the voxels
    and each piece counts by its area.

    Args:
        tolerance: in ``unit``; put it into the metric's name (``nsd_1mm``).
        labels, num_classes, empty_policy: see `pipeline.metrics.labelwise.LabelwiseMetric`.
        unit: ``"mm"``; or ``"voxels"``, which the metric's name should then contain.
        spacing: mm along each axis, for labels whose files do not contain it.

    Raises:
        InputError: when called: the voxel size is unknown, or as in `LabelwiseMetric`.
        ValueError: the tolerance is negative, an unknown unit, or a spacing that is not positive.

    Example:
        >>> truth = torch.zeros(1, 8, 8)
        >>> truth[:, 2:6, 2:6] = 1
        >>> pred = truth.roll(1, dims=1)
        >>> SurfaceDice(tolerance=0.7, spacing=[0.7, 0.7])([pred], [truth]).item()
        1.0
        >>> SurfaceDice(tolerance=0.6, spacing=[0.7, 0.7])([pred], [truth]).item() < 1
        True
    """

    def __init__(
        self,
        tolerance: float,
        labels: int | Sequence[int] = (1,),
        num_classes: int | None = None,
        empty_policy: str = "exclude",
        unit: str = "mm",
        spacing: Sequence[float] | None = None,
    ) -> None:
        super().__init__(labels, num_classes, empty_policy, unit, spacing)
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise ValueError(f"tolerance must be 0 or more, got {tolerance}")
        self.tolerance = tolerance

    def _score(self, pred: torch.Tensor, truth: torch.Tensor, spacing: tuple[float, ...] | None) -> float:
        options: Any = {"include_background": True, "spacing": spacing, "use_subvoxels": True}
        return compute_surface_dice(pred[None, None], truth[None, None], [self.tolerance], **options).item()
