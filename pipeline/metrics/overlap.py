"""Dice and IoU of single classes of a map of class ids, and the thresholded Jaccard index of the ISIC challenge."""

from collections.abc import Sequence

import torch
from monai.metrics import compute_iou

from pipeline.metrics.labelwise import LabelwiseMetric

_ROUNDING = 1e-7


class LabelIoU(LabelwiseMetric):
    """Intersection over union TP / (TP + FP + FN), also called the Jaccard index, by MONAI's ``compute_iou``.

    Args:
        labels, num_classes, empty_policy: see `pipeline.metrics.labelwise.LabelwiseMetric`.

    Example:
        >>> LabelIoU()([torch.tensor([[[1, 1, 0, 0]]])], [torch.tensor([[[0, 1, 1, 1]]])]).tolist()
        [[0.25]]
    """

    def _score(self, pred: torch.Tensor, truth: torch.Tensor, spacing: tuple[float, ...] | None) -> float:
        # Sums of bool are slow; float32 sums have an error of about 1e-7 in masks of more than 2^24 voxels.
        return compute_iou(pred[None, None].float(), truth[None, None].float()).item()


class LabelDice(LabelIoU):
    """Dice 2 TP / (2 TP + FP + FN) of each class, from MONAI's ``compute_iou`` as 2 J / (1 + J).

    ``compute_dice`` gives the same result more slowly, as it indexes single voxels. A map of class ids replaces the
    one-hot tensor, so a volume of many classes needs little memory, and the saved mask is what gets the score.

    Args:
        labels, num_classes, empty_policy: see `pipeline.metrics.labelwise.LabelwiseMetric`.

    Example:
        >>> truth = torch.tensor([[[0, 1, 1, 2]]])
        >>> pred = torch.tensor([[[1, 1, 1, 0]]])
        >>> dice = LabelDice(labels=[1, 2])
        >>> dice([pred], [truth]).tolist()
        [[0.8..., 0.0]]
        >>> round(dice.aggregate().item(), 3), dice.count_cases()
        (0.4, {'n': 2, 'n_both_empty': 0, 'n_empty_gt': 0, 'n_missed': 1})
    """

    def _score(self, pred: torch.Tensor, truth: torch.Tensor, spacing: tuple[float, ...] | None) -> float:
        index = super()._score(pred, truth, spacing)
        return 2 * index / (1 + index)


class ThresholdedJaccard(LabelIoU):
    """Jaccard index of an image, 0 where it is below a threshold: the score of the ISIC 2018 challenge, task 1.

    Args:
        threshold: lowest index that is not set to 0.
        labels, num_classes, empty_policy: see `pipeline.metrics.labelwise.LabelwiseMetric`.

    Raises:
        ValueError: the threshold is not between 0 and 1.

    Example:
        >>> metric = ThresholdedJaccard()
        >>> metric([torch.tensor([[[1, 1, 1, 0]]])], [torch.tensor([[[1, 1, 1, 1]]])]).tolist()
        [[0.75]]
        >>> metric([torch.tensor([[[1, 1, 0, 0]]])], [torch.tensor([[[1, 1, 1, 1]]])]).tolist()
        [[0.0]]
        >>> metric.aggregate().item()
        0.375
    """

    def __init__(
        self,
        threshold: float = 0.65,
        labels: int | Sequence[int] = (1,),
        num_classes: int | None = None,
        empty_policy: str = "exclude",
    ) -> None:
        super().__init__(labels, num_classes, empty_policy)
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be between 0 and 1, got {threshold}")
        self.threshold = threshold

    def _score(self, pred: torch.Tensor, truth: torch.Tensor, spacing: tuple[float, ...] | None) -> float:
        index = super()._score(pred, truth, spacing)
        # The index has the precision of float32: 13 of 20 pixels are 0.65 and must pass.
        return index if index >= self.threshold - _ROUNDING else 0.0
