"""Dice per slice of a volume, for comparison with work that scores slices."""

from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric, compute_dice


class NonEmptySliceDice(CumulativeIterationMetric):
    """Mean Dice over the slices whose truth is not empty (unit ``slice_nonempty``).

    Every slice along the last axis is one item. Slices without foreground in the truth are NaN in the buffer and left
    out of the mean, so false positives in them do not count: use it in addition to the Dice of the whole volume.

    Example:
        >>> truth = torch.zeros(1, 1, 2, 2, 2)
        >>> truth[..., 0] = 1  # the second slice is empty
        >>> metric = NonEmptySliceDice()
        >>> _ = metric(truth, truth)
        >>> metric.aggregate().item(), metric.get_buffer().flatten().tolist()
        (1.0, [1.0, nan])
    """

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """Return the Dice ``(B * D, 1)`` of the slices of ``(B, 1, H, W, D)``, NaN where ``y`` has no foreground.

        Raises:
            ValueError: the truth is missing, or the shapes differ or are not ``(B, 1, H, W, D)``.
        """
        if y is None or y.shape != y_pred.shape or y.ndim != 5 or y.shape[1] != 1:
            shape = None if y is None else tuple(y.shape)
            raise ValueError(f"expected two tensors (B, 1, H, W, D), got {tuple(y_pred.shape)} and {shape}")
        pred_slices, truth_slices = (x.movedim(-1, 1).flatten(0, 1) for x in (y_pred, y))
        return compute_dice(pred_slices, truth_slices, include_background=True, ignore_empty=True)

    def aggregate(self) -> torch.Tensor:
        """Return the mean over all slices seen so far; NaN if none had foreground."""
        buffer = self.get_buffer()
        if buffer is None or len(buffer) == 0:
            return torch.tensor(float("nan"))
        return torch.as_tensor(buffer).float().nanmean()
