"""How much the scores of a cross-validation differ from fold to fold, and which cases were scored."""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.runs.metric_names import is_count
from pipeline.runs.run_folder import Run, finite

_ENDS = {"early stop": "early stop", "time": "time was over"}


def describe_spread(run: Run) -> dict[str, Any] | None:
    """Return folds, the value of each metric in each fold, and notes; None of a run that is no cross-validation."""
    record = run.record.get("crossval")
    if not isinstance(record, Mapping) or not isinstance(record.get("folds"), list):
        return None
    folds = [fold for fold in record["folds"] if isinstance(fold, Mapping)]
    tables = [_as_mapping(fold.get("metrics")) for fold in folds]
    names = list(dict.fromkeys([*run.summaries, *(name for table in tables for name in table)]))
    rows = []
    for name in names:
        values = [_read_number(table.get(name)) for table in tables]
        known = [value for value in values if value is not None]
        if known and not is_count(name):
            rows.append({"metric": name, "values": values, "low": min(known), "high": max(known)})
    return {"of": record.get("of"), "folds": [_describe_fold(fold) for fold in folds], "rows": rows} | {
        "notes": _explain(record, folds)
    }


def list_spread(run: Run) -> list[str]:
    """Return the same in a few lines of text; empty if there is nothing to say.

    Only metrics that are means over cases have a line.
    """
    spread = describe_spread(run)
    if spread is None:
        return []
    means = [row for row in spread["rows"] if row["metric"] in run.summaries]
    texts = [f"{row['metric']} {row['low']:.3f} to {row['high']:.3f}" for row in means]
    return [*([f"means of the folds: {', '.join(texts)}"] if texts else []), *spread["notes"]]


def _describe_fold(fold: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("fold", "n_cases", "epochs", "max_epochs", "best_epoch", "training_seconds")
    return {**{key: fold.get(key) for key in keys}, "ended": _ENDS.get(str(fold.get("ended")), "")}


def _explain(record: Mapping[str, Any], folds: list[Mapping[str, Any]]) -> list[str]:
    total, numbers = record.get("of"), [str(fold.get("fold")) for fold in folds]
    whole = len(folds) == total
    cases = (
        "each of their cases was scored once" if whole else f"only the cases of these were scored: {', '.join(numbers)}"
    )
    notes = [f"cross-validation, {len(folds)} of {total} folds: {cases}, by a network that was not trained on it"]
    if never := record.get("never_scored"):
        notes.append(f"{never} cases are in no fold: trainings used them, and they were not scored")
    if late := [str(fold.get("fold")) for fold in folds if fold.get("ended") == "time"]:
        notes.append(f"the time of the training was over before its last epoch in these folds: {', '.join(late)}")
    notes.append("the spread of the folds is that of networks and cases together, and no interval")
    return notes


def _as_mapping(item: Any) -> Mapping[str, Any]:
    return item if isinstance(item, Mapping) else {}


def _read_number(value: Any) -> float | None:
    number = float(value) if isinstance(value, int | float) else math.nan
    return finite(number)
