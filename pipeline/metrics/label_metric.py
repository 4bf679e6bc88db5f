"""A MONAI metric on one class of a map of class ids."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric

from pipeline.metrics.label_maps import check_classes, read_label_maps


class LabelMetric(CumulativeIterationMetric):
    """Pass one class of prediction and label to a metric, as masks of one channel.

    For MONAI's metrics, which take one-hot tensors; the metrics of this package have an argument ``labels``. MONAI's
    surface metrics measure in voxels here: use `HausdorffDistance95` and `SurfaceDice` for mm.

    Args:
        metric: a metric of lists of masks (1, *spatial) of 0 and 1.
        label: the class id.
        num_classes: with the background, to check the values.

    Raises:
        InputError: when called: values that are not class ids, several channels, or shapes that differ.
        ValueError: ``metric`` is not a cumulative metric or leaves out the background, which MONAI ignores silently if
            there is one channel; or ``label`` is not a foreground class.

    Example:
        >>> from monai.metrics import DiceMetric
        >>> dice = LabelMetric(DiceMetric(), label=2, num_classes=3)
        >>> _ = dice([torch.tensor([[[0, 1, 2, 2]]])], [torch.tensor([[[0, 2, 2, 2]]])])
        >>> round(dice.aggregate().item(), 2)
        0.8
    """

    def __init__(self, metric: CumulativeIterationMetric, label: int, num_classes: int) -> None:
        if not isinstance(metric, CumulativeIterationMetric):
            raise ValueError(f"metric must be a cumulative metric such as DiceMetric, got {type(metric).__name__}")
        if getattr(metric, "include_background", True) is False:
            raise ValueError(f"{type(metric).__name__} gets one channel here: set include_background to true")
        self.metric = metric
        (self.label,), self.num_classes = check_classes(label, num_classes)
        super().__init__()

    def reset(self) -> None:
        """Forget all cases."""
        super().reset()
        self.metric.reset()

    def __call__(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Any:
        """Score cases: lists of (1, *spatial) or (B, 1, *spatial)."""
        if not isinstance(y_pred, Sequence) and not isinstance(y, Sequence):
            return self._compute_tensor(y_pred, y, **kwargs)
        results = [self._select(pred[None], None if y is None else y[k][None]) for k, pred in enumerate(y_pred)]
        return self.metric([pred[0] for pred, _ in results], [truth[0] for _, truth in results], **kwargs)

    def aggregate(self, *args: Any, **kwargs: Any) -> Any:
        """Return the metric of all cases."""
        return self.metric.aggregate(*args, **kwargs)

    def get_buffer(self) -> Any:
        """Return the metric's values of each case."""
        return self.metric.get_buffer()

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> Any:
        pred, truth = self._select(y_pred, y)
        return self.metric(pred, truth, **kwargs)

    def _select(self, y_pred: torch.Tensor, y: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        pred, truth = read_label_maps(y_pred, y, self.num_classes)
        return (pred == self.label).float(), (truth == self.label).float()
