"""Numbers of cases that a mean hides: without truth, missed, or both empty."""

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.metrics.labelwise import LabelwiseMetric, find_cases

_KINDS = ("empty_gt", "missed", "both_empty")


class CaseCount(LabelwiseMetric):
    """Number of cases of a kind, as a metric for ``metrics.csv`` and TensorBoard.

    The command ``report`` prints counts named ``n_empty_gt``, ``n_missed`` and ``n_both_empty`` under the means.

    Args:
        kind: ``"empty_gt"``: no truth; ``"missed"``: truth, but nothing predicted; ``"both_empty"``.
        labels: class ids; with several, each class of each case counts separately.
        num_classes: with the background, to check the values; by default one more than the highest of ``labels``.

    Raises:
        ValueError: the kind is unknown.

    Example:
        >>> truth, nothing = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
        >>> missed = CaseCount("missed")
        >>> _ = missed([nothing, truth, nothing], [truth, truth, nothing])
        >>> missed.aggregate().item()
        1.0
    """

    def __init__(self, kind: str, labels: int | Sequence[int] = (1,), num_classes: int | None = None) -> None:
        super().__init__(labels, num_classes)
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}")
        self.kind = kind

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> list[torch.Tensor]:
        _, counts = super()._compute_tensor(y_pred, y, **kwargs)
        return [find_cases(counts, self.kind).float(), counts]

    def aggregate(self) -> torch.Tensor:
        """Return the number of cases of the kind."""
        marks = self.get_buffer()
        return torch.tensor(0.0) if marks is None else marks.sum()

    def _score(self, pred: torch.Tensor, truth: torch.Tensor, spacing: tuple[float, ...] | None) -> float:
        return 0.0
