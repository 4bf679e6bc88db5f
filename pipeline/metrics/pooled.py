"""Scores over all pixels of a set at once, for comparison with work that reports them.

Large objects dominate a pooled score and a missed small one hardly changes it, so report the mean over cases as well.
"""

from abc import abstractmethod
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric

from pipeline.metrics.label_maps import read_label_maps
from pipeline.metrics.overlap import LabelDice, LabelIoU


class PooledDice(LabelDice):
    """Dice of one TP, FP and FN over the whole set (unit ``pooled``), mean over the classes.

    ``get_buffer`` holds the Dice of each case, whose mean differs from this score.

    Args:
        labels, num_classes: see `pipeline.metrics.labelwise.LabelwiseMetric`.
        empty_policy: score of a case without foreground in ``get_buffer``; it does not change the pooled value.

    Example:
        >>> large, small = torch.ones(1, 9, 1), torch.ones(1, 1, 1)
        >>> metric = PooledDice()
        >>> metric([large, small * 0], [large, small]).flatten().tolist()
        [1.0, 0.0]
        >>> round(metric.aggregate().item(), 4)
        0.9474
    """

    def aggregate(self) -> torch.Tensor:
        """Return 2 TP / (2 TP + FP + FN) over all cases; NaN if there is no foreground at all."""
        hit, false, missed = self.get_counts().sum(dim=0).double().unbind(-1)
        return (2 * hit / (2 * hit + false + missed)).nanmean()


class PooledIoU(LabelIoU):
    """Intersection over union of one TP, FP and FN over the whole set (unit ``pooled``), mean over the classes.

    Args:
        labels, num_classes: see `pipeline.metrics.labelwise.LabelwiseMetric`.
        empty_policy: score of a case without foreground in ``get_buffer``; it does not change the pooled value.

    Example:
        >>> large, small = torch.ones(1, 9, 1), torch.ones(1, 1, 1)
        >>> metric = PooledIoU()
        >>> _ = metric([large, small * 0], [large, small])
        >>> metric.aggregate().item()
        0.9
    """

    def aggregate(self) -> torch.Tensor:
        """Return TP / (TP + FP + FN) over all cases; NaN if there is no foreground at all."""
        hit, false, missed = self.get_counts().sum(dim=0).double().unbind(-1)
        return (hit / (hit + false + missed)).nanmean()


class _PooledShare(CumulativeIterationMetric):
    """A share of all pixels of the set.

    Args:
        num_classes: with the background, to check the values.
    """

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes counts the background too, so it must be at least 2, got {num_classes}")
        self.num_classes = num_classes

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """Return two numbers per case (B, 2): counted pixels and all pixels.

        Raises:
            InputError: values that are not class ids, several channels, or shapes that differ.
        """
        pred, truth = (item.flatten(1) for item in read_label_maps(y_pred, y, self.num_classes))
        counted = self._mark(pred, truth).sum(dim=1)
        return torch.stack([counted, torch.full_like(counted, truth.shape[1])], dim=1)

    def aggregate(self) -> torch.Tensor:
        """Return the share over all pixels of all cases; NaN if there is none."""
        counts = super().get_buffer()
        if counts is None:
            return torch.tensor(float("nan"))
        counted, total = counts.sum(dim=0).double().unbind()
        return counted / total

    def get_buffer(self) -> torch.Tensor | None:
        """Return the share of each case (N, 1), of all processes."""
        counts = super().get_buffer()
        return None if counts is None else counts[:, :1] / counts[:, 1:].double()

    @abstractmethod
    def _mark(self, pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return which pixels count in two maps of class ids (B, N)."""


class PixelAccuracy(_PooledShare):
    """Share of all pixels of the set that have the right class, background included.

    With little foreground it is high for any prediction, so list `BackgroundAccuracy` next to it.

    Args:
        num_classes: with the background, to check the values.

    Example:
        >>> truth, nothing = torch.tensor([[[0, 0, 0, 1]]]), torch.zeros(1, 1, 4)
        >>> accuracy, background = PixelAccuracy(), BackgroundAccuracy()
        >>> _ = accuracy([nothing], [truth]), background([nothing], [truth])
        >>> accuracy.aggregate().item(), background.aggregate().item()
        (0.75, 0.75)
    """

    def _mark(self, pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return pred == truth


class BackgroundAccuracy(_PooledShare):
    """Pixel accuracy of an empty prediction: the share of background in the truth.

    Args:
        num_classes: with the background, to check the values.

    Example:
        >>> metric = BackgroundAccuracy()
        >>> _ = metric([torch.ones(1, 1, 4)], [torch.tensor([[[0, 0, 0, 1]]])])
        >>> metric.aggregate().item()
        0.75
    """

    def _mark(self, pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return truth == 0
