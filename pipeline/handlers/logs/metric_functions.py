"""What an engine's metrics know about themselves: the policy for empty masks, and counts of such masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler

from pipeline.handlers.logs.empty_predictions import has_foreground
from pipeline.metrics.labelwise import LabelwiseMetric


def find_metric_functions(engine: Engine) -> dict[str, Any]:
    """Return the metric by name of each ``IgniteMetricHandler`` that is attached to an engine.

    Example:
        >>> from monai.metrics import DiceMetric
        >>> engine = Engine(lambda engine, batch: None)
        >>> IgniteMetricHandler(metric_fn=DiceMetric()).attach(engine, "dice")
        >>> {name: type(metric).__name__ for name, metric in find_metric_functions(engine).items()}
        {'dice': 'DiceMetric'}
    """
    found = {}
    for handlers in engine._event_handlers.values():  # ignite has no public list
        for handler, *_ in handlers:
            owner = getattr(handler, "__self__", None)
            if isinstance(owner, IgniteMetricHandler) and owner._name is not None:
                found[owner._name] = owner.metric_fn
    return found


def find_policy(metric: Any) -> str | None:
    """Return how a metric scores empty masks, in the words of `pipeline.metrics.labelwise`; None if it does not say.

    Example:
        >>> from monai.metrics import DiceMetric
        >>> find_policy(DiceMetric(ignore_empty=False)), find_policy(DiceMetric(ignore_empty=True))
        ('perfect', 'truth_only')
    """
    policy = getattr(metric, "empty_policy", None)
    if isinstance(policy, str):
        return policy
    ignored = getattr(getattr(metric, "metric", metric), "ignore_empty", None)
    return None if ignored is None else "truth_only" if ignored else "perfect"


def count_empty(metric: Any, by_case: Sequence[int]) -> tuple[int, int]:
    """Return the numbers of masks without truth, and of those with truth but nothing predicted.

    Args:
        metric: ours know the numbers, each class of a case for itself.
        by_case: both numbers as counted by `find_empty`, for all other metrics.
    """
    if isinstance(metric, LabelwiseMetric):
        counts = metric.count_cases()
        return counts["n_empty_gt"], counts["n_missed"]
    return by_case[0], by_case[1]


def find_empty(output: Any) -> torch.Tensor:
    """Return how many items of an engine's output have no truth, and how many have truth but nothing predicted.

    Example:
        >>> some, none = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
        >>> find_empty([{"pred": none, "label": some}, {"pred": some, "label": none}]).tolist()
        [1, 1]
    """
    counts = torch.zeros(2, dtype=torch.int64)
    for item in output if isinstance(output, (list, tuple)) else [output]:
        if isinstance(item, Mapping) and all(isinstance(item.get(key), torch.Tensor) for key in ("pred", "label")):
            there = has_foreground(item["label"])
            counts += torch.tensor([not there, there and not has_foreground(item["pred"])])
    return counts
