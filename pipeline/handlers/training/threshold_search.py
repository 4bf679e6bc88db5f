"""Choose the threshold of a binary network on validation cases."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from pipeline.handlers.checkpoints.atomic_save import remove_stale, write_json
from pipeline.handlers.run.exits import keep_one_line
from pipeline.issues import InputError
from pipeline.metrics.label_maps import check_class_ids, to_plain
from pipeline.metrics.labelwise import check_policy
from pipeline.parallel.agreement import exit_together

_LOGGER = logging.getLogger(__name__)
_DEFAULT = 0.5
_METRICS = ("dice", "iou", "jaccard_65")
_JACCARD_LIMIT = 0.65
_SAME = 1e-12  # means that differ by less are equal, apart from rounding
_SEALED = {"test", "testing", "train", "training"}


@dataclass(eq=False, repr=False)
class ThresholdSearch:
    """Find the threshold with the best mean score over validation cases, and write it as a config override.

    ``output_dir/<filename>`` contains ``{"_desc_": "Chosen on 100 cases ...", "threshold": 0.62}`` and comes after the
    bundle's config: ``--config_file "['inference.json','threshold.json']"``. Two histograms of a case's probabilities
    give its scores at all thresholds, so the memory does not grow with the cases. As in ``AsDiscreted``, foreground is
    ``prob >= threshold``. Steps after ``AsDiscreted``, such as removing small components, are ignored.

    With ``evaluator``, in ``train#handlers`` after `TrainingRun`, the file is written after each validation that is the
    best so far, so it fits the best weights. Without, in ``validate#handlers`` of an evaluation, it is always written.
    Of equally good thresholds the one nearest to 0.5 is chosen.

    Raises:
        InputError: ``split`` is a test or training split; in the run: the output has no probabilities, or they or the
            label have an unexpected shape or values.
        ValueError: the metric or the policy is unknown, or a threshold is not between 0 and 1.

    Note:
        With several processes each case must be seen by one process only; otherwise it counts twice.
    """

    output_dir: str | Path  #: folder of the file
    evaluator: Engine | None = None  #: the engine that `monai.handlers.ValidationHandler` runs
    metric: str = "dice"  #: ``"dice"``, ``"iou"``, or ``"jaccard_65"``: IoU of a case, 0 where it is below 0.65
    #: candidates; by default 0.05 to 0.95 in steps of 0.01. 0.5 is always one.
    thresholds: Sequence[float] | None = None
    filename: str = "threshold.json"  #: of the file
    split: str = "val"  #: name of the cases' split, for the record
    empty_policy: str = "exclude"  #: score of empty masks, see `pipeline.metrics.labelwise`
    prob_key: str = "prob"  #: foreground probability (1, *spatial) in the evaluator's output, on the grid of the label
    label_key: str = "label"  #: truth (1, *spatial) of 0 and 1

    def __post_init__(self) -> None:
        if self.metric not in _METRICS:
            raise ValueError(f"metric must be one of {', '.join(_METRICS)}, got {self.metric!r}")
        if is_sealed(self.split):
            raise InputError(
                f"a threshold is chosen on validation cases only, not on split {self.split!r}; "
                "search with --split val, then score with threshold.json as the last config file"
            )
        check_policy(self.empty_policy)
        candidates = [step / 100 for step in range(5, 96)] if self.thresholds is None else self.thresholds
        self._candidates = sorted({float(threshold) for threshold in candidates} | {_DEFAULT})
        if not all(0 < threshold < 1 for threshold in self._candidates):
            raise ValueError(f"thresholds must lie between 0 and 1, got {list(candidates)}")
        self.path = Path(self.output_dir) / self.filename
        self.begin()

    def attach(self, engine: Engine) -> None:
        """Search in every validation of the evaluator; without one, ``engine`` is the evaluator."""
        evaluator = self.evaluator or engine
        trainer = None if evaluator is engine else engine
        evaluator.add_event_handler(Events.EPOCH_STARTED, self.begin)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        evaluator.add_event_handler(Events.COMPLETED, self.finish, trainer)
        keep_one_line(evaluator)

    def begin(self) -> None:
        """Start a validation: sum of the scores, number of scores and number of cases per threshold."""
        self._sums = torch.zeros(3, len(self._candidates), dtype=torch.float64)

    def add(self, evaluator: Engine) -> None:
        """Score the cases of the last batch at every threshold."""
        outputs: Any = evaluator.state.output
        for output in outputs:
            prob, truth = self._read(output)
            scores = score_counts(count_at_thresholds(prob, truth, self._candidates), self.metric, self.empty_policy)
            known = ~scores.isnan()
            self._sums += torch.stack([scores.nan_to_num(0.0), known.double(), torch.ones_like(scores)])

    def finish(self, evaluator: Engine, trainer: Engine | None) -> None:
        """Choose the threshold; log the curve of an evaluation, write the file of the best validation."""
        total, number, seen = torch.as_tensor(idist.all_reduce(self._sums.to(idist.device()))).cpu()
        curve, count = total / number, int(seen[0])
        if bool(curve.isnan().all()):
            _LOGGER.warning("%s is not written: none of %d cases has a score at any threshold", self.path, count)
            return
        chosen = choose_threshold(self._candidates, curve.tolist())
        text = self._describe(chosen, curve.tolist(), count)
        if trainer is None:
            _LOGGER.info("threshold %g: %s; curve %s", chosen, text, self._show_curve(curve.tolist()))
        elif getattr(evaluator.state, "best_metric_epoch", None) != trainer.state.epoch:
            return
        else:
            text = f"{text}; best weights so far, epoch {trainer.state.epoch}"
        with exit_together():
            if idist.get_rank() == 0:
                remove_stale(self.path.parent, (re.escape(self.path.name),))
                write_json({"_desc_": text, "threshold": chosen}, self.path)

    def _read(self, output: Any) -> tuple[torch.Tensor, torch.Tensor]:
        for key in (self.prob_key, self.label_key):
            if not isinstance(output, Mapping) or key not in output:
                raise InputError(
                    f"threshold search: the evaluator's output has no {key!r}; in postprocessing, after Activationsd, "
                    f"copy 'pred' to {self.prob_key!r} with CopyItemsd"
                )
        prob, label = output[self.prob_key], output[self.label_key]
        if prob.shape != label.shape or prob.shape[0] != 1:
            raise InputError(
                f"threshold search: {self.prob_key!r} has the shape {tuple(prob.shape)} and {self.label_key!r} "
                f"{tuple(label.shape)}, expected (1, *spatial) on the same grid"
            )
        check_class_ids(label, "label", 2)
        plain = to_plain(prob)
        if not plain.is_floating_point() or bool(((plain < 0) | (plain > 1)).any()):
            raise InputError(
                f"threshold search: {self.prob_key!r} goes from {plain.min().item():g} to {plain.max().item():g}, "
                "expected probabilities from 0 to 1: put Activationsd with sigmoid before CopyItemsd"
            )
        return plain, to_plain(label).to(plain.device) > 0

    def _describe(self, chosen: float, curve: Sequence[float], count: int) -> str:
        best, usual = (curve[self._candidates.index(threshold)] for threshold in (chosen, _DEFAULT))
        return (
            f"chosen on {count} cases of split {self.split}: mean {self.metric} {best:.4f} at {chosen:g}, "
            f"{usual:.4f} at {_DEFAULT:g} (empty_policy {self.empty_policy})"
        )

    def _show_curve(self, curve: Sequence[float]) -> str:
        step = max(1, len(curve) // 10)
        pairs = list(zip(self._candidates, curve, strict=True))[::step]
        return ", ".join(f"{threshold:g}: {value:.4f}" for threshold, value in pairs)


def is_sealed(split: str) -> bool:
    """Return whether a split is for training or test, so that nothing may be chosen on it.

    Example:
        >>> is_sealed("test"), is_sealed("Test_2"), is_sealed("val"), is_sealed("latest")
        (True, True, False, False)
    """
    return bool(_SEALED & set(re.split(r"[^a-z]+", split.lower())))


def count_at_thresholds(prob: torch.Tensor, truth: torch.Tensor, thresholds: Sequence[float]) -> torch.Tensor:
    """Count true positive, false positive and false negative pixels at every threshold.

    Args:
        prob: any shape; a pixel is foreground where ``prob >= threshold``, so never where it is NaN.
        truth: bool, as ``prob``.
        thresholds: T numbers in ascending order.

    Returns:
        (T, 3), on the CPU.

    Example:
        >>> prob, truth = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([False, True, True])
        >>> count_at_thresholds(prob, truth, [0.1, 0.5, 0.6]).tolist()
        [[2, 1, 0], [2, 0, 0], [1, 0, 1]]
    """
    # In the tensor's precision, as torch compares a tensor with a number.
    edges = torch.tensor(thresholds, dtype=prob.dtype, device=prob.device)
    wide = torch.promote_types(prob.dtype, torch.float32)
    bins = torch.bucketize(prob.to(wide).nan_to_num(nan=-1.0).flatten(), edges.to(wide), right=True)
    size = len(thresholds) + 1
    inside = torch.bincount(bins[truth.flatten()], minlength=size)
    found = torch.bincount(bins, minlength=size)
    hit, positive = (counts.flip(0).cumsum(0).flip(0)[1:] for counts in (inside, found))
    return torch.stack([hit, positive - hit, inside.sum() - hit], dim=1).cpu()


def score_counts(counts: torch.Tensor, metric: str, empty_policy: str) -> torch.Tensor:
    """Return the scores (T,) of one case from its counts (T, 3); NaN if the policy excludes the case.

    Example:
        >>> counts = torch.tensor([[2, 1, 0], [0, 0, 2], [0, 0, 0]])
        >>> score_counts(counts, "dice", "exclude").tolist()
        [0.8, 0.0, nan]
    """
    hit, false, missed = counts.double().unbind(-1)
    if metric == "dice":
        scores = 2 * hit / (2 * hit + false + missed)
    else:
        scores = hit / (hit + false + missed)
        if metric == "jaccard_65":
            scores = torch.where(scores < _JACCARD_LIMIT, 0.0, scores)
    if empty_policy == "perfect":
        return scores.nan_to_num(nan=1.0)
    return torch.where(hit + missed == 0, torch.nan, scores) if empty_policy == "truth_only" else scores


def choose_threshold(thresholds: Sequence[float], curve: Sequence[float]) -> float:
    """Return the threshold with the highest mean; of equals the nearest to 0.5, then the lowest.

    Example:
        >>> choose_threshold([0.3, 0.4, 0.5, 0.6, 0.7], [0.8, 0.9, float("nan"), 0.9, 0.9])
        0.4
    """
    best = max(value for value in curve if value == value)
    equal = [threshold for threshold, value in zip(thresholds, curve, strict=True) if value >= best - _SAME]
    return min(equal, key=lambda threshold: (round(abs(threshold - _DEFAULT), 9), threshold))
