"""Merge the tables of the folds: each case once, the means and their statistics over all of them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.datasets.manifests.manifest import normalise_subject
from pipeline.issues import InputError
from pipeline.runs.description import Summary, summarize
from pipeline.runs.metric_names import is_count
from pipeline.runs.run_folder import Run
from pipeline.runs.tables import METRICS, RAW, CaseTable, read_case_table, read_metrics, read_values, write_metrics

_COUNTS = ("n_empty", "n_missed")


def merge_tables(runs: Mapping[int, Run], folder: Path) -> dict[str, float]:
    """Write the tables of all folds into a folder, those by case with a column ``fold``.

    Means over cases are means over the cases of all folds, counts are sums. A pooled metric, whose value for all cases
    does not follow from those of the folds, is left out.

    Args:
        runs: the evaluation of each fold.
        folder: gets ``metrics.csv`` and each ``<metric>_raw.csv``.

    Returns:
        The values in ``metrics.csv``.

    Raises:
        InputError: the folds have different metrics, or a case or a subject is in two of them.
    """
    first = next(iter(runs.values()))
    names = list(read_metrics(first.folder / METRICS))
    values: dict[str, float] = {}
    summaries: dict[str, Summary] = {}
    for name in (*names, *(name for name in first.tables if name not in names)):
        _require_metric(name, first, runs)
        if name in first.tables:
            table = merge_table(name, {fold: run.folder for fold, run in runs.items()}, folder)
            summary = _summarize(table, [run.folder for run in runs.values()])
            if summary is not None and all(name in run.summaries or name in run.without_value for run in runs.values()):
                values[name], summaries[name] = summary.mean, summary
        elif name in names:
            value = _merge_value(name, [run.folder for run in runs.values()])
            values |= {} if value is None else {name: value}
    write_metrics(folder / METRICS, values, summaries)
    return values


def _require_metric(name: str, first: Run, runs: Mapping[int, Run]) -> None:
    for fold, run in runs.items():
        known = {*read_metrics(run.folder / METRICS), *run.tables}
        if name not in known or len(known) != len({*read_metrics(first.folder / METRICS), *first.tables}):
            raise InputError(
                f"{run.folder} has other metrics than {first.folder}; delete {run.folder.parent} to run fold {fold} "
                "again"
            )


def merge_table(name: str, folders: Mapping[int, Path], target: Path) -> CaseTable:
    """Write the rows of all folds of one metric into one table, as they are, and return it.

    Raises:
        InputError: a case or a subject is in two folds, or the columns differ.
    """
    rows: list[list[str]] = []
    header: list[str] = []
    places: dict[str, int] = {}
    for fold, folder in folders.items():
        path = folder / f"{name}{RAW}"
        table = read_case_table(path)
        _require_once(table, fold, places, path)
        with path.open(newline="", encoding="utf-8") as stream:
            own, *more = csv.reader(stream)
        if header and own != header:
            raise InputError(f"{path} has other columns than the table of the first fold; run that fold again")
        header = own
        rows += [[*row, str(fold)] for row in more]
    with (target / f"{name}{RAW}").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([[*header, "fold"], *rows])
    return read_case_table(target / f"{name}{RAW}")


def _require_once(table: CaseTable, fold: int, places: dict[str, int], path: Path) -> None:
    """Require that no case and no subject of a fold is in another one, so that nothing was scored after training."""
    found = {f"case {case}": f"case {case}" for case in table.scores}
    people = [subject for subject in table.subjects.values() if normalise_subject(subject)]
    found |= {f"subject {normalise_subject(subject)}": f"subject {subject}" for subject in people}
    for key, text in sorted(found.items()):
        if places.setdefault(key, fold) != fold:
            raise InputError(
                f"{path}: {text} is in the folds {places[key]} and {fold}, so it would count twice; "
                "make folds by subject with python -m pipeline dataset split"
            )


def _summarize(table: CaseTable, folders: Sequence[Path]) -> Summary | None:
    rows = [read_metrics(folder / METRICS).get(table.metric, {}) for folder in folders]
    counts = {column: [row.get(column, "") for row in rows] for column in _COUNTS}
    sums: dict[str, Any] = {
        column: sum(map(int, texts)) if all(text.isdigit() for text in texts) else None
        for column, texts in counts.items()
    }
    try:
        summary = summarize(table.metric, table.scores, table.subjects)
    except ValueError:  # no case has a value
        return None
    return replace(summary, unit=table.unit, empty_policy=rows[0].get("empty_policy") or None, **sums)


def _merge_value(name: str, folders: Sequence[Path]) -> float | None:
    """Return the sum of counts, or the mean of means by their numbers of cases; None of what is neither."""
    values = [read_values(folder / METRICS).get(name) for folder in folders]
    if any(value is None for value in values):
        return None
    numbers = [float(value) for value in values if value is not None]
    if is_count(name):
        return sum(numbers)
    texts = [read_metrics(folder / METRICS)[name].get("n", "") for folder in folders]
    if not all(text.isdigit() for text in texts) or not sum(map(int, texts)):
        return None
    weights = [int(text) for text in texts]
    return sum(value * weight for value, weight in zip(numbers, weights, strict=True)) / sum(weights)
