"""Post-processing of a run that was tuned: which steps are on, their gains, and whether they are about this run."""

from collections.abc import Mapping
from typing import Any

from pipeline.runs.ablation_record import ABLATION, digest_steps
from pipeline.runs.run_folder import Run

_ROWS, _FACTS = ("name", "over", "score", "gain"), ("split", "fold", "manifest_sha256", "weights_sha256")


def describe_ablation(run: Run) -> dict[str, Any] | None:
    """Return the ablation in the config of a run, and how its facts differ from the run's; None if there is none."""
    config = run.record.get("config")
    if not isinstance(config, Mapping) or (said := _read_ablation(config)) is None:
        return None
    on = {step.get("name"): bool(step.get("on")) for step in said.get("steps", []) if isinstance(step, Mapping)}
    rows = [{**row, "on": on.get(row["name"])} for row in said["rows"]]
    facts = {name: said.get(name) for name in (*_FACTS, "cases", "subjects", "folds", "resamples", "seed")}
    temperature = said.get("temperature")
    return {
        "metric": said["metric"],
        "rows": rows,
        "temperature": temperature if isinstance(temperature, Mapping) else None,
        "facts": facts,
        "notes": [*_compare_facts(said, run), *_compare_config(said, config)],
    }


def _read_ablation(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    said = config.get(ABLATION)
    rows = said.get("rows") if isinstance(said, Mapping) and isinstance(said.get("metric"), str) else None
    is_one = isinstance(rows, list) and all(isinstance(row, Mapping) and set(_ROWS) <= row.keys() for row in rows)
    return said if is_one else None


def _compare_facts(said: Mapping[str, Any], run: Run) -> list[str]:
    """Say whether the gains were measured with the weights and on the cases of the run."""
    config, manifest, weights = run.record["config"], run.record.get("manifest"), run.record.get("checkpoint")
    ours = {
        "weights_sha256": weights.get("sha256") if isinstance(weights, Mapping) else None,
        "manifest_sha256": manifest.get("sha256") if isinstance(manifest, Mapping) else None,
        "split": config.get("split"),
        "fold": config.get("fold"),
    }
    names = {"weights_sha256": "weights", "manifest_sha256": "manifest", "split": "split", "fold": "fold"}
    unknown = [names[key] for key in ours if ours[key] is None and key != "fold"]
    differ = [key for key in ours if ours[key] is not None and _differ(ours[key], said.get(key))]
    notes = []
    if "weights_sha256" in differ:
        notes.append("The gains are of other weights than this run's, so they do not hold for it.")
    if "manifest_sha256" in differ:
        notes.append("The gains are of another manifest than this run's.")
    for key in ("split", "fold"):
        if key in differ:
            notes.append(f"The gains are of {key} {said.get(key)}; the scores of this page are of {ours[key]}.")
    if unknown:
        notes.append(f"This run does not record its {' and '.join(unknown)}, so it may not be what was tuned.")
    if not notes:
        notes.append("Measured with the weights and on the cases of this run, which also chose the values.")
    return notes


def _differ(ours: Any, theirs: Any) -> bool:
    return str(ours) != str(theirs)


def _compare_config(said: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Say whether the run used what was tuned."""
    values = said.get("values")
    known = values if isinstance(values, Mapping) else {}
    changed = [name for name, value in known.items() if config.get(name) != value]
    if said.get("refine_digest") != digest_steps(config.get("refine")):
        changed.append("refine")
    return [f"This run changed {', '.join(changed)}, so it did not use what was tuned."] if changed else []
