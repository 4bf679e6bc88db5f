"""Base of the metrics per case and class: checks, masks without foreground, means and counts.

A mask without foreground has no natural score, and MONAI's metrics differ: some leave out false positives, some
missed structures. So these metrics have an ``empty_policy``:

============== =========================== ===================== =====================
policy         both empty                  only truth empty      only prediction empty
============== =========================== ===================== =====================
``exclude``    NaN: left out of the mean   worst                 worst
``perfect``    best                        worst                 worst
``truth_only`` NaN: left out of the mean   NaN: left out         worst
============== =========================== ===================== =====================

Overlap and surface Dice: best 1, worst 0. Distances: best 0, worst the diagonal of the image. ``perfect`` is MONAI's
``ignore_empty=False`` and ``truth_only`` its ``ignore_empty=True``, which leaves out false positives.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from monai.metrics import CumulativeIterationMetric

from pipeline.metrics.label_maps import check_classes, read_label_maps

EMPTY_POLICIES = ("exclude", "perfect", "truth_only")


class LabelwiseMetric(CumulativeIterationMetric):
    """A score per case and class of maps of class ids.

    Takes predictions and labels as lists of ``(1, *spatial)`` or as ``(B, 1, *spatial)``; a binary mask is a map of the
    ids 0 and 1. The mean is taken over the classes of each case, then over cases. NaN scores are left out; if none is
    left, the mean is NaN (0.0 in MONAI's metrics).

    Args:
        labels: class ids to score.
        num_classes: number of classes with background, to check the values; by default the highest label plus one.
        empty_policy: score of masks without foreground: "exclude", "perfect" or "truth_only", see the table above.

    Raises:
        InputError: when called: values that are not class ids, several channels, or shapes that differ.
        ValueError: ``labels`` is empty or contains the background, or the policy is unknown.
    """

    best: ClassVar[float] = 1.0

    def __init__(
        self, labels: int | Sequence[int] = (1,), num_classes: int | None = None, empty_policy: str = "exclude"
    ) -> None:
        super().__init__()
        check_policy(empty_policy)
        self.labels, self.num_classes = check_classes(labels, num_classes)
        self.empty_policy = empty_policy

    def __call__(self, y_pred: Any, y: Any = None, **kwargs: Any) -> torch.Tensor:
        """Score cases, remember the scores and return them (B, K): one per case and label."""
        scores, _ = super().__call__(y_pred, y, **kwargs)
        return torch.as_tensor(scores)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> list[torch.Tensor]:
        """Return scores (B, K) and true positive, false positive and false negative voxels (B, K, 3)."""
        preds, truths = read_label_maps(y_pred, y, self.num_classes)
        scores, counts = [], []
        for index, (pred, truth) in enumerate(zip(preds[:, 0], truths[:, 0], strict=True)):
            spacing = self._choose_spacing(y, index)
            for label in self.labels:
                mask, target = pred == label, truth == label
                counts.append(_count_voxels(mask, target))
                scores.append(self._score_or_policy(mask, target, counts[-1], spacing))
        shape = (len(preds), len(self.labels))
        return [
            torch.tensor(scores, device=preds.device).reshape(shape),
            torch.tensor(counts, device=preds.device).reshape(*shape, 3),
        ]

    def aggregate(self) -> torch.Tensor:
        """Return the mean over all cases seen so far; NaN if none has a score."""
        return average_cases(self.get_buffer())

    def get_buffer(self) -> torch.Tensor | None:
        """Return the scores (N, K) of all cases, of all processes."""
        buffers = super().get_buffer()
        return None if buffers is None else buffers[0]

    def get_counts(self) -> torch.Tensor:
        """Return true positive, false positive and false negative voxels (N, K, 3) of all cases, of all processes."""
        buffers = super().get_buffer()
        empty = torch.zeros((0, len(self.labels), 3), dtype=torch.int64)
        return empty if buffers is None else buffers[1]

    def count_cases(self) -> dict[str, int]:
        """Count the scores in the mean, each class of each case separately.

        ``n`` is in the mean; ``n_both_empty``, ``n_empty_gt`` and ``n_missed`` as in `CaseCount`.
        """
        counts, scores = self.get_counts(), self.get_buffer()
        return {
            "n": 0 if scores is None else int((~scores.isnan()).sum()),
            **{f"n_{kind}": int(find_cases(counts, kind).sum()) for kind in ("both_empty", "empty_gt", "missed")},
        }

    def _choose_spacing(self, label: Any, index: int) -> tuple[float, ...] | None:
        return None

    def _score_or_policy(
        self, pred: torch.Tensor, truth: torch.Tensor, counts: tuple[int, int, int], spacing: tuple[float, ...] | None
    ) -> float:
        hit, false, missed = counts
        found, there = hit + false > 0, hit + missed > 0
        if found and there:
            return self._score(pred, truth, spacing)
        if there or (found and self.empty_policy != "truth_only"):
            return self._score_worst(truth, spacing)
        return self.best if self.empty_policy == "perfect" else float("nan")

    def _score_worst(self, truth: torch.Tensor, spacing: tuple[float, ...] | None) -> float:
        return 0.0

    @abstractmethod
    def _score(self, pred: torch.Tensor, truth: torch.Tensor, spacing: tuple[float, ...] | None) -> float:
        """Return the score of two masks (*spatial) of bool that both have foreground."""


def check_policy(policy: str) -> None:
    """Raise ValueError for an unknown policy."""
    if policy not in EMPTY_POLICIES:
        raise ValueError(f"empty_policy must be one of {', '.join(EMPTY_POLICIES)}, got {policy!r}")


def find_cases(counts: torch.Tensor, kind: str) -> torch.Tensor:
    """Return which cases are of a kind.

    Args:
        counts: (..., 3): true positive, false positive, false negative voxels.
        kind: ``"both_empty"``, ``"empty_gt"``: no truth, or ``"missed"``: truth, but nothing predicted.

    Returns:
        (...), bool.

    Example:
        >>> counts = torch.tensor([[0, 0, 0], [0, 2, 0], [0, 0, 3], [1, 1, 1]])
        >>> find_cases(counts, "empty_gt").tolist(), find_cases(counts, "missed").tolist()
        ([True, True, False, False], [False, False, True, False])
    """
    hit, false, missed = counts.unbind(-1)
    no_pred, no_truth = hit + false == 0, hit + missed == 0
    if kind == "both_empty":
        return no_pred & no_truth
    return no_truth if kind == "empty_gt" else no_pred & ~no_truth


def average_cases(scores: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of scores (N, K) over the classes of a case, then over cases; NaN if there is none.

    Example:
        >>> average_cases(torch.tensor([[1.0, 0.5], [float("nan"), 0.25]])).item()
        0.5
    """
    if scores is None:
        return torch.tensor(float("nan"))
    return scores.double().nanmean(dim=1).nanmean()


def _count_voxels(pred: torch.Tensor, truth: torch.Tensor) -> tuple[int, int, int]:
    # Twenty times faster than sum on bool tensors.
    hit, found, there = (int(torch.count_nonzero(mask)) for mask in (pred & truth, pred, truth))
    return hit, found - hit, there - hit
