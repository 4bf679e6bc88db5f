"""Read the output folder of a training or an evaluation: scores by case and subject, statistics, record."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.issues import InputError
from pipeline.runs.description import Summary, summarize
from pipeline.runs.metric_names import is_pooled
from pipeline.runs.tables import METRICS, RAW, CaseTable, is_mean, read_case_table, read_metrics, read_values

#: The record of a training and that of an evaluation
RECORDS = ("run.json", "evaluate.json")


@dataclass(frozen=True)
class Run:
    """The output folder of a training or an evaluation."""

    folder: Path  #: the folder
    summaries: dict[str, Summary]  #: statistics of each metric that is a mean over cases
    tables: dict[str, CaseTable]  #: scores by case and subject of each metric that has such a table
    values: dict[str, float]  #: value of each other metric: pooled ones and counts; NaN for none
    without_value: tuple[str, ...]  #: metrics whose cases have no value
    record: dict[str, Any]  #: ``run.json`` or ``evaluate.json``: command, versions, manifest, ...; empty without one
    epoch: int | None  #: the epoch after which a training computed the scores; None of an evaluation or an older run
    is_training: bool  #: whether it is the folder of a training

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights are in ``model.pt``, as far as the record says."""
        best = self.record.get("best")
        epoch = best.get("epoch") if isinstance(best, Mapping) else None
        return epoch if isinstance(epoch, int) else None


def read_run(folder: str | Path) -> Run:
    """Read an output folder; reports and comparisons start from here.

    Scores and subjects come from ``<metric>_raw.csv``, the policies and counts of empty masks from ``metrics.csv``, and
    the command, the versions and the manifest from ``run.json`` or ``evaluate.json``. Folders of older runs lack the
    subjects, so each case counts as one, see `Summary.n_ungrouped`.

    Raises:
        InputError: the folder is missing or holds no scores, or a file is cut off, damaged or may not be read.
    """
    place = Path(folder)
    _check_folder(place)
    rows, values = read_metrics(place / METRICS), read_values(place / METRICS)
    paths = sorted(place.glob(f"*{RAW}"))
    if not paths and not values:
        raise InputError(f"{place} holds no <metric>{RAW}; run evaluate.json with --output_dir {place} first")
    tables = {path.name.removesuffix(RAW): read_case_table(path) for path in paths}
    summaries, without_value, without_mean = {}, [], []
    for name, table in tables.items():
        _check_number(place, table, rows.get(name, {}))
        try:
            summary = _summarize(table, rows.get(name, {}))
        except ValueError:
            values.pop(name, None)  # MONAI writes 0.0 for it
            without_value.append(name)
            continue
        if table.is_merged and name not in rows:
            without_mean.append(name)  # its value in each fold is no mean over cases
        elif is_mean(summary, values.get(name)) and not (is_pooled(name) and name in values):
            values.pop(name, None)
            summaries[name] = summary
    if not summaries and not values and not without_mean:
        raise InputError(f"{place}: no case has a value in {', '.join(path.name for path in paths)}")
    record, is_training = _read_record(place)
    return Run(
        folder=place,
        summaries=summaries,
        tables=tables,
        values=values,
        without_value=tuple(without_value),
        record=record,
        epoch=next((int(row["epoch"]) for row in rows.values() if row.get("epoch", "").isdigit()), None),
        is_training=is_training,
    )


def _check_folder(place: Path) -> None:
    try:
        is_folder = place.is_dir()
        next(place.iterdir(), None) if is_folder else None
    except PermissionError:
        raise InputError(f"{place}: no permission to read this folder, check its owner and `chmod u+rx`") from None
    if not is_folder:
        raise InputError(f"{place} is not a folder; expected the output_dir of a training or an evaluation")


def _check_number(place: Path, table: CaseTable, row: Mapping[str, str]) -> None:
    """Refuse tables of different runs, and one that was cut off between two lines."""
    counts = [row.get(column, "") for column in ("n", "n_missing")]
    if all(count.isdigit() for count in counts) and sum(map(int, counts)) != len(table.scores):
        raise InputError(
            f"{place}: {METRICS} counts {sum(map(int, counts))} cases, but {table.metric}{RAW} has "
            f"{len(table.scores)}, so one of them is cut off or of another run; run evaluate.json again"
        )


def _summarize(table: CaseTable, row: Mapping[str, str]) -> Summary:
    return replace(
        summarize(table.metric, table.scores, table.subjects),
        unit=table.unit,
        empty_policy=row.get("empty_policy") or None,
        n_empty=_read_count(row, "n_empty"),
        n_missed=_read_count(row, "n_missed"),
    )


def _read_count(row: Mapping[str, str], column: str) -> int | None:
    text = row.get(column, "")
    return int(text) if text.isdigit() else None


def _read_record(place: Path) -> tuple[dict[str, Any], bool]:
    """Return the record, and whether it is that of a training."""
    for name in RECORDS:
        path = place / name
        if not path.is_file():
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except PermissionError:
            raise InputError(f"{path}: no permission to read it, check its owner and `chmod u+r`") from None
        except (OSError, ValueError):
            raise InputError(f"{path}: this is not the record of a run; delete it to report without it") from None
        if isinstance(record, dict):
            return record, name == RECORDS[0]
    return {}, (place / "model.pt").is_file()


def finite(value: float | None) -> float | None:
    """Return None for NaN and infinity, which JSON lacks."""
    return value if value is not None and math.isfinite(value) else None
