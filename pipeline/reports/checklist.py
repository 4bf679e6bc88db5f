"""Items of CLAIM 2024 and TRIPOD+AI for the methods and results: filled as far as the files of a run say them."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.runs.description import Summary
from pipeline.runs.metric_names import is_small_good
from pipeline.runs.reliability import BAND_METRICS, is_of_probabilities
from pipeline.runs.run_folder import Run

#: Sources of the items
SOURCES = (
    "CLAIM 2024: Tejani et al., Radiology: Artificial Intelligence 2024, 6(4) e240300",
    "TRIPOD+AI: Collins et al., BMJ 2024, 385 e078378",
)
# What no file of a run can say.
_OPEN = (
    *("Study design and goal", "Eligibility of patients, setting and dates", "De-identification", "Image acquisition"),
    *("Reference standard: definition, rationale, annotators, variability", "Sample size: how it was chosen"),
    *(
        "How cases were assigned to disjoint partitions",
        "Demographic and clinical characteristics",
    ),
    *("Fairness: scores by subgroup", "External data: scores on data of another site"),
    *("Explainability", "Limitations and implications", "Ethics, registration, protocol, funding, conflicts"),
)


def fill_checklist(run: Run) -> dict[str, Any]:
    """Return the items with what the files say, and those that are open."""
    filled = [{"item": item, "text": text} for item, text in _describe(run).items() if text]
    missing = [item for item, text in _describe(run).items() if not text]
    return {"filled": filled, "open": [*missing, *_OPEN], "sources": list(SOURCES)}


def _describe(run: Run) -> dict[str, str]:
    record = run.record
    summaries = [summary for name, summary in run.summaries.items() if not is_of_probabilities(name)]
    errors = [run.summaries[name] for name in BAND_METRICS if name in run.summaries]
    versions = _as_mapping(record.get("versions"))
    manifest, git = _as_mapping(record.get("manifest")), _as_mapping(record.get("git"))
    best = _as_mapping(record.get("best"))
    config = _as_mapping(record.get("config"))
    train = _as_mapping(config.get("train"))
    first = summaries[0] if summaries else None
    return {
        "Data source": f"manifest {manifest['path']}, SHA-256 {manifest['sha256']}"
        if _has(manifest, "path", "sha256")
        else "",
        "Numbers of patients and examinations": _describe_numbers(first) if first else "",
        "Partition that was scored": _describe_partition(config),
        "Preprocessing of the data": ", ".join(_list_classes(train.get("deterministic_transforms"))),
        "Missing data": "; ".join(f"{s.metric}: {s.n_missing} cases without a value" for s in summaries),
        "Model: network and its settings": _describe_item(config.get("network_def")),
        "Software": ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        "Training: augmentation of the data": ", ".join(
            name for part in ("random_transforms", "augmentation") for name in _list_classes(train.get(part))
        ),
        "Training: loss and optimiser": "; ".join(
            text for key in ("loss", "optimizer", "lr_scheduler") if (text := _describe_item(config.get(key)))
        ),
        "Training: seed, epochs, device, settings": _describe_training(run),
        "Selection of the final model": f"best validation, {best['metric']} {best['value']:.4g}, epoch {best['epoch']}"
        if _has(best, "metric", "value", "epoch") and isinstance(best["value"], int | float)
        else "",
        "Metrics of performance": ", ".join([*(s.metric for s in summaries), *run.values]),
        "Statistical uncertainty": "95 % intervals by subject; none where too few subjects hold the coverage",
        "Performance and its uncertainty": "; ".join(_describe_score(s) for s in summaries),
        "Calibration": "; ".join(_describe_score(s) for s in errors),
        "Failure analysis": "; ".join(
            f"{s.metric}: worst {s.worst[0]} with {s.worst[1]:.3f}"
            + ("" if is_small_good(s.metric) else f", cases at 0: {s.n_zero}")
            for s in summaries
        ),
        "Availability of code": f"revision {git['revision']}" + (", with changes" if git.get("dirty") else "")
        if _has(git, "revision")
        else "",
    }


def _describe_numbers(s: Summary) -> str:
    unknown = f", cases without a known subject: {s.n_ungrouped}" if s.n_ungrouped else ""
    known = f" with a score, of {s.n + s.n_missing}" if s.n_missing else ""
    return f"{s.unit}s: {s.n}{known}, subjects: {s.n_subjects}{unknown}"


def _describe_partition(config: Mapping[str, Any]) -> str:
    facts = [f"{name} {config[name]}" for name in ("split", "fold") if config.get(name) is not None]
    return f"{', '.join(facts)} of the manifest" if facts else ""


def _list_classes(item: Any) -> Iterator[str]:
    """Yield the names of the classes in a part of a config, those that are switched off left out."""
    if isinstance(item, list):
        for part in item:
            yield from _list_classes(part)
    elif isinstance(item, Mapping) and "_target_" in item and item.get("_disabled_") is not True:
        yield str(item["_target_"]).rpartition(".")[2]


def _describe_item(item: Any) -> str:
    """Return class and settings; settings that are objects or expressions are left out.

    Example:
        >>> _describe_item({"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "weight_decay": 0.01})
        'AdamW(weight_decay=0.01)'
    """
    if not isinstance(item, Mapping) or "_target_" not in item:
        return ""
    settings = ", ".join(
        f"{name}={value}"
        for name, value in item.items()
        if not name.startswith("_") and not isinstance(value, Mapping) and not str(value).startswith(("$", "@"))
    )
    return f"{str(item['_target_']).rpartition('.')[2]}({settings})"


def _describe_training(run: Run) -> str:
    known = [
        f"{name} {run.record[key]}"
        for name, key in (("seed", "seed"), ("epochs", "epochs"), ("device", "device"))
        if run.record.get(key) is not None
    ]
    config = _as_mapping(run.record.get("config"))
    known += [f"{key.replace('_', ' ')} {config[key]}" for key in ("batch_size", "learning_rate") if key in config]
    return ", ".join(known) if run.is_training else ""


def _describe_score(s: Summary) -> str:
    interval = f"95 % interval {s.low:.3f} to {s.high:.3f}" if s.low is not None else f"no interval: {s.why_not}"
    return f"{s.metric}: mean {s.mean:.3f} ({interval}), median {s.median:.3f}, quartiles {s.q1:.3f} and {s.q3:.3f}"


def _as_mapping(item: Any) -> Mapping[str, Any]:
    return item if isinstance(item, Mapping) else {}


def _has(item: Mapping[str, Any], *keys: str) -> bool:
    return all(item.get(key) is not None for key in keys)
