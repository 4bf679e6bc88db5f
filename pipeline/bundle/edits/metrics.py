"""Metrics of class maps: for each label that the dataset has."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from pipeline.bundle.configs import Config, read_target
from pipeline.bundle.draft import Draft
from pipeline.issues import InputError

_METRICS = "pipeline.metrics."
_LABEL_METRIC = f"{_METRICS}LabelMetric"
#: Metrics of ours that take the labels they score, and those that take only their number.
BY_LABELS = (
    *("LabelDice", "LabelIoU", "ThresholdedJaccard", "HausdorffDistance95", "SurfaceDice", "PooledDice", "PooledIoU"),
    "CaseCount",
)
BY_NUMBER = ("PixelAccuracy", "BackgroundAccuracy")
#: What needs no labels: the loss takes class maps as they are.
_AS_IS = ("LossMetric",)
#: MONAI's metrics that compare foreground with foreground, and what says the same of class maps.
_PLAIN = {"DiceMetric": "LabelDice", "MeanIoU": "LabelIoU"}


def edit_metrics(draft: Draft) -> None:
    """Score every label of the dataset; one label of a source that knows one needs nothing."""
    if draft.dataset.kind.objects or (draft.network("out_channels") == 1):
        return
    number = len(draft.dataset.labels)
    renamed: dict[str, list[str]] = {}
    keys = [table for table in _find_tables(draft) if _is_key(draft, table)]
    for table in _find_tables(draft):
        changed: Config = {}
        for name, handlers in _gather(table, draft).items():
            converted = dict(_convert(name, handlers, draft, number))
            changed.update(converted)
            for old in handlers:
                renamed[old] = list(converted)
        is_key = any(table is key for key in keys)
        if draft.outputs == 1 and not is_key:
            changed = {**_score_each(draft, keys), **changed}
        if is_key and len(changed) != 1:
            raise InputError(
                f"{draft.source.name} chooses its best epoch by {', '.join(table)}, which is of one label alone, so it"
                " cannot be converted to other labels"
            )
        table.clear()
        table.update(changed)
    _rename_details(draft, renamed)
    draft.tell(f"metrics: of the labels {', '.join(draft.dataset.labels[1:])}")


def name_for_config(label: str) -> str:
    """Return a label's name as part of a metric's name.

    Example:
        >>> name_for_config("Cyst (left)"), name_for_config("???")
        ('cyst_left', 'label')
    """
    return re.sub(r"\W+", "_", label.casefold(), flags=re.ASCII).strip("_") or "label"


def name_labels(labels: tuple[str, ...]) -> list[str]:
    """Return the labels' names as parts of metrics' names, each another one; the background is left out.

    Example:
        >>> name_labels(("background", "Cyst", "cyst?"))
        ['cyst', 'cyst_2']
    """
    names: list[str] = []
    for number, label in enumerate(labels[1:], start=1):
        name = name_for_config(label)
        names.append(name if name not in names else f"{name}_{number}")
    return names


def _find_tables(draft: Draft) -> list[Config]:
    """Return the objects that hold metrics by name, in all configs."""
    tables: list[Config] = []
    for block in draft.configs.find("IgniteMetricHandler"):
        if isinstance(block.holder, dict) and all(table is not block.holder for table in tables):
            tables.append(block.holder)
    return tables


def _is_key(draft: Draft, table: Config) -> bool:
    """Return whether the metrics of a table choose the best epoch."""
    return any(
        table is found
        for data in draft.configs.files.values()
        for found in (data.get("validate", {}).get("key_metric"), data.get("validate#key_metric"))
    )


def _score_each(draft: Draft, keys: list[Config]) -> Config:
    """Return the Dice of each label, read in the way in which the key metric is."""
    handler = next((handler for table in keys for handler in table.values()), None)
    if handler is None:
        return {}
    number, policy = len(draft.dataset.labels), _read_policy(handler["metric_fn"])
    dice = {"_target_": f"{_METRICS}LabelDice", **({"empty_policy": policy} if policy else {})}
    return {
        f"dice_{text}": {
            **copy.deepcopy(handler),
            "metric_fn": _set_labels(dice, [label], number),
        }
        for label, text in enumerate(name_labels(draft.dataset.labels), start=1)
    }


def _read_policy(metric: Config) -> str:
    """Return what a metric does with empty masks, in the words of ours; "" for the default."""
    if read_target(metric) in _PLAIN:
        return "perfect" if metric.get("ignore_empty", True) is False else "truth_only"
    return str(metric.get("empty_policy", ""))


def _gather(table: Config, draft: Draft) -> dict[str, dict[str, Config]]:
    """Return the metrics of a table by name; those that score one label each, in the same way, under one name."""
    groups: dict[str, dict[str, Config]] = {}
    seen: list[tuple[Any, str]] = []
    for name, handler in table.items():
        metric = handler.get("metric_fn", {}) if isinstance(handler, dict) else {}
        base = name
        if read_target(metric) == "LabelMetric":
            core = {**metric, "label": None}
        elif read_target(metric) in BY_LABELS and metric.get("labels") not in (None, _all_labels(draft)):
            core = {**metric, "labels": None}
        else:
            core = None
        if core is not None:
            base = next((known for item, known in seen if item == core), "") or _cut_label(name, metric, draft)
            seen.append((core, base))
        groups.setdefault(base, {})[name] = handler
    return groups


def _all_labels(draft: Draft) -> list[int]:
    """Return the labels of the source."""
    return list(range(1, max(len(_source_labels(draft)), 2)))


def _source_labels(draft: Draft) -> dict[int, str]:
    outputs = draft.metadata.get("network_data_format", {}).get("outputs", {})
    names: Config = next((item.get("channel_def", {}) for item in outputs.values()), {})
    return {int(label): str(name) for label, name in names.items() if str(label).isdigit()}


def _cut_label(name: str, metric: Config, draft: Draft) -> str:
    """Return a metric's name without its label: by the label's name, else without its last word."""
    labels = metric.get("labels") or [metric.get("label")]
    label = name_for_config(_source_labels(draft).get(labels[0], "")) if labels[0] is not None else ""
    return name.removesuffix(f"_{label}") if name.endswith(f"_{label}") else name.rpartition("_")[0] or name


def _convert(name: str, handlers: Config, draft: Draft, number: int) -> Iterator[tuple[str, Config]]:
    """Yield name and handler of the metrics that take the place of one, or of one for each of the source's labels."""
    handler = next(iter(handlers.values()))
    metric = handler["metric_fn"]
    target = read_target(metric)
    labels = list(range(1, number))

    def copy_with(fn: Config) -> Config:
        return {**copy.deepcopy(handler), "metric_fn": fn}

    single = target in BY_LABELS and name not in handlers
    if target in _AS_IS:
        yield name, handler
    elif target in _PLAIN:
        policy = _read_policy(metric)
        yield name, copy_with({"_target_": f"{_METRICS}{_PLAIN[target]}", "labels": labels, "empty_policy": policy})
    elif target in BY_NUMBER:
        yield name, copy_with({**metric, "num_classes": number})
    elif target in BY_LABELS and not single:
        yield name, copy_with(_set_labels(metric, labels, number))
    else:
        inner = metric["metric"] if target == "LabelMetric" else metric
        for label, text in zip(labels, name_labels(draft.dataset.labels), strict=True):
            wrapped = {"_target_": _LABEL_METRIC, "metric": copy.deepcopy(inner), "label": label, "num_classes": number}
            yield f"{name}_{text}", copy_with(_set_labels(metric, [label], number) if single else wrapped)


def _set_labels(metric: Config, labels: list[int], number: int) -> Config:
    whole = labels[-1] == number - 1
    rest = {key: value for key, value in metric.items() if key not in ("labels", "num_classes")}
    return {**rest, "labels": labels, **({} if whole else {"num_classes": number})}


def _rename_details(draft: Draft, renamed: dict[str, list[str]]) -> None:
    """Let handlers that write raw tables name the metrics that there are now."""
    for block in draft.configs.find():
        details = block.item.get("metric_details")
        if isinstance(details, list):
            names = [new for old in details for new in renamed.get(old, [old])]
            block.item["metric_details"] = list(dict.fromkeys(names))
