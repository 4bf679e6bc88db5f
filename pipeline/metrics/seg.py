"""Scores of instances per object, as in the Cell Tracking Challenge."""

from typing import Any, ClassVar

import torch
from monai.metrics import CumulativeIterationMetric

from pipeline.issues import InputError
from pipeline.metrics.label_maps import to_plain

_KINDS = ("truth", "missed", "false")


class SegMeasure(CumulativeIterationMetric):
    """SEG of the Cell Tracking Challenge: mean over all objects of the truth of their Jaccard index (unit ``object``).

    An object R of the truth is matched by the predicted object S that covers more than half of it,
    ``|R & S| > 0.5 |R|``; there is at most one. It scores ``|R & S| / |R | S|``, and 0 without a match (Maška et al.
    2014, Bioinformatics 30). Unmatched predictions do not lower the score, so list :class:`ObjectCount` next to it.

    ``aggregate`` pools the objects of all cases, as the challenge does over the frames of a film. ``get_buffer`` and
    ``<metric>_raw.csv`` hold the mean over the objects of each case, NaN without any; their mean differs if cases have
    different numbers of objects.

    Example:
        >>> truth = torch.tensor([[[1, 1, 1, 1, 0, 7, 7]]])
        >>> pred = torch.tensor([[[3, 3, 3, 0, 0, 5, 0]]])  # covers three quarters of one object, half of the other
        >>> metric = SegMeasure()
        >>> _ = metric([pred], [truth])
        >>> metric.aggregate().item()
        0.375
    """

    #: as in `pipeline.metrics.labelwise`: a case without objects has no score
    empty_policy: ClassVar[str] = "truth_only"

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """Return per case ``(B, 4)``: the sum of scores and the numbers of true, missed and false objects.

        Args:
            y_pred: instance ids ``(B, 1, *spatial)``, 0 for background.
            y: as ``y_pred``.
            kwargs: not used.

        Raises:
            InputError: the truth is missing, the shapes differ or have several channels, or values are not ids.
        """
        if y is None:
            raise InputError("a metric got no label; its output_transform must give pred and label")
        if y_pred.shape != y.shape or y.ndim < 3 or y.shape[1] != 1:
            raise InputError(
                "expected pred and label of instance ids (1, *spatial), of equal shape, got "
                f"{tuple(y_pred.shape[1:])} and {tuple(y.shape[1:])}; put Invertd before the metric if the grids differ"
            )
        pairs = zip(_read_ids(y_pred, "pred"), _read_ids(y, "label"), strict=True)
        return torch.stack([_score_objects(pred, truth) for pred, truth in pairs])

    def aggregate(self) -> torch.Tensor:
        """Return the mean over the objects of all cases, of all processes; NaN if there is none."""
        counts = self.get_counts()
        return torch.tensor(float("nan")) if counts is None else counts[:, 0].sum() / counts[:, 1].sum()

    def get_buffer(self) -> torch.Tensor | None:
        """Return the mean of each case ``(N, 1)``, NaN where the truth has no object."""
        counts = self.get_counts()
        return None if counts is None else counts[:, :1] / counts[:, 1:2]

    def get_counts(self) -> torch.Tensor | None:
        """Return per case ``(N, 4)``: the sum of scores and the numbers of true, missed and false objects."""
        return super().get_buffer()


class ObjectCount(SegMeasure):
    """Number of objects of a kind, as a metric, by the matches of :class:`SegMeasure`.

    Args:
        kind: ``"truth"``: objects of the truth; ``"missed"``: those without a match; ``"false"``: predicted objects
            without a match, including the parts of a split cell and two merged cells.

    Raises:
        ValueError: the kind is unknown.

    Example:
        >>> false = ObjectCount("false")
        >>> _ = false([torch.tensor([[[1, 0, 2]]])], [torch.tensor([[[1, 0, 0]]])])
        >>> false.aggregate().item()
        1.0
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {kind!r}")
        self.column = 1 + _KINDS.index(kind)

    def aggregate(self) -> torch.Tensor:
        """Return the number over all cases."""
        counts = self.get_counts()
        return torch.tensor(0.0) if counts is None else counts[:, self.column].sum()

    def get_buffer(self) -> torch.Tensor | None:
        """Return the number of each case ``(N, 1)``."""
        counts = self.get_counts()
        return None if counts is None else counts[:, self.column, None]


def _read_ids(item: torch.Tensor, name: str) -> torch.Tensor:
    plain = to_plain(item).detach()
    ids = plain.long()
    wrong = (ids < 0) | (ids != plain)
    if bool(wrong.any()):
        then = "put AsDiscreted and LabelInstancesd before the metric" if name == "pred" else "check its file"
        raise InputError(
            f"{name} has the value {plain[wrong][0].item():g}, expected instance ids from 0 (background): {then}"
        )
    return ids


def _score_objects(pred: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    (truth_ids, truth), (pred_ids, pred) = (torch.unique(ids, return_inverse=True) for ids in (truth, pred))
    n_truth, n_pred = len(truth_ids), len(pred_ids)
    overlap = torch.bincount((truth * n_pred + pred).flatten(), minlength=n_truth * n_pred).reshape(n_truth, n_pred)
    truth_area, pred_area = overlap.sum(1, keepdim=True), overlap.sum(0, keepdim=True)
    objects = overlap[truth_ids > 0][:, pred_ids > 0]
    truth_area, pred_area = truth_area[truth_ids > 0], pred_area[:, pred_ids > 0]
    matched = 2 * objects > truth_area
    scores = objects.double() / (truth_area + pred_area - objects)
    counts = (matched.shape[0], (~matched.any(1)).sum().item(), (~matched.any(0)).sum().item())
    return torch.tensor([(scores * matched).sum().item(), *counts], dtype=torch.float64, device=pred.device)
