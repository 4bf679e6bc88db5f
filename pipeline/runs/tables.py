"""The two tables of a run, one schema for all bundles: ``metrics.csv`` and ``<metric>_raw.csv``.

``metrics.csv`` starts with MONAI's two columns, the name and the value of a metric, and goes on with the statistics of
the metrics that are means over cases. ``<metric>_raw.csv`` starts with MONAI's columns, one score by class and their
mean, and ends with the subject and the unit of the case. `SCHEMA` is in the record of the run, ``run.json`` or
``evaluate.json``; tables of older runs lack columns and are read too.
"""

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.issues import InputError
from pipeline.runs.description import Summary

#: Version of the columns, and of the keys in the record; raised when one changes its meaning
SCHEMA = 1
METRICS = "metrics.csv"
RAW = "_raw.csv"
#: Columns of ``metrics.csv``
COLUMNS = (
    *("metric", "value", "n", "n_missing", "n_empty", "n_missed", "n_subjects", "sd", "median", "q1", "q3"),
    *("low", "high", "method", "median_low", "median_high", "unit", "empty_policy", "epoch"),
)
_FORMULA = ("=", "+", "-", "@")
_NEXT = "run evaluate.json again"


@dataclass(frozen=True)
class CaseTable:
    """The scores of one metric by case, as in ``<metric>_raw.csv``."""

    metric: str  #: its name
    scores: dict[str, float]  #: by case id; NaN where the metric has no value
    subjects: dict[str, str] = field(default_factory=dict)  #: by case id, "" if unknown; empty in tables of older runs
    unit: str = "case"  #: what a case is: patient, volume, image, ...
    is_merged: bool = False  #: whether it holds the cases of all folds of a cross-validation


def protect(name: str) -> str:
    """Put an apostrophe in front of a name that a spreadsheet would compute as a formula."""
    return f"'{name}" if name.startswith(_FORMULA) else name


def read_cell(text: str) -> str:
    """Undo `protect`."""
    return re.sub("^'(?=[=+@-])", "", text)


def read_case_table(path: str | Path) -> CaseTable:
    """Read ``<metric>_raw.csv``.

    Raises:
        InputError: the file cannot be read, is cut off, is not such a table, or lists a case twice.
    """
    rows = _read_rows(Path(path))
    if len(rows) < 2 or "filename" not in rows[0] or "mean" not in rows[0]:
        raise InputError(f"{path}: expected a table of scores with the columns filename and mean, {_NEXT}")
    places = {name: rows[0].index(name) for name in ("filename", "mean", "subject", "unit") if name in rows[0]}
    unit = rows[1][places["unit"]] if "unit" in places else "case"
    table = CaseTable(Path(path).name.removesuffix(RAW), {}, {}, unit, "fold" in rows[0])
    for row in rows[1:]:
        case = read_cell(row[places["filename"]])
        if case in table.scores:
            raise InputError(f"{path}: {case} occurs twice, expected one line per case")
        table.scores[case] = _read_number(row[places["mean"]], case, path)
        if "subject" in places:
            table.subjects[case] = read_cell(row[places["subject"]])
    return table


def read_scores(path: str | Path) -> dict[str, float]:
    """Read the scores by case id of ``<metric>_raw.csv``; NaN where the metric has no value.

    Raises:
        InputError: as `read_case_table`.
    """
    return read_case_table(path).scores


def read_metrics(path: str | Path) -> dict[str, dict[str, str]]:
    """Read ``metrics.csv``: the texts of its columns by metric; empty if there is no such file.

    Raises:
        InputError: the file cannot be read or is cut off.
    """
    if not Path(path).exists():
        return {}
    rows = [row for row in _read_rows(Path(path)) if row]
    names = list(COLUMNS[:2])
    if rows and rows[0][:2] == names:
        names, rows = rows[0], rows[1:]
    return {row[0]: dict(zip(names, row, strict=False)) for row in rows}


def read_values(path: str | Path) -> dict[str, float]:
    """Read the values by metric of ``metrics.csv``, without those that are not a single number.

    Raises:
        InputError: as `read_metrics`.
    """
    values = {}
    for name, row in read_metrics(path).items():
        try:
            values[name] = float(row["value"])
        except (KeyError, ValueError):  # a metric by class is written as a tensor
            continue
    return values


def write_metrics(
    path: Path,
    values: Mapping[str, Any],
    summaries: Mapping[str, Summary],
    *,
    delimiter: str = ",",
    epoch: int | None = None,
) -> None:
    """Write ``metrics.csv``.

    Args:
        path: the file.
        values: value by metric.
        summaries: statistics of those that are means over cases.
        delimiter: between the columns.
        epoch: the epoch of a training after which they were computed.
    """
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, value in values.items():
            summary = summaries.get(name)
            cells = {} if summary is None else {column: getattr(summary, column, None) for column in COLUMNS[2:]}
            if summary is not None and summary.why_not:
                cells["method"] = f"none: {summary.why_not}"
            cells |= {"metric": protect(name), "value": str(value), "epoch": epoch}
            writer.writerow([_format(cells.get(column)) for column in COLUMNS])


def add_columns(path: Path, subjects: Sequence[str], unit: str, delimiter: str = ",") -> None:
    """Add the columns ``subject`` and ``unit`` to a table by case that MONAI has written, if it has a row a case."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream, delimiter=delimiter))
    if len(rows) != len(subjects) + 1:
        return
    added: Iterable[tuple[str, str]] = [("subject", "unit"), *((protect(subject), unit) for subject in subjects)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerows([*row, *cells] for row, cells in zip(rows, added, strict=True))


def _format(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


def _read_number(text: str, case: str, path: str | Path) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path}: the score of {case} is {text!r}, expected a number") from None


def _read_rows(path: Path) -> list[list[str]]:
    """Return the rows, all as long as the first one (of MONAI's ``metrics.csv``, which has no header, as they are)."""
    try:
        text = path.read_text(encoding="utf-8")
        rows = list(csv.reader(text.splitlines(keepends=True), strict=True))
    except PermissionError:
        raise InputError(f"{path}: no permission to read it, check its owner and `chmod u+r`") from None
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: this is not a table, or it is cut off; {_NEXT}") from None
    if rows and not text.endswith("\n"):
        raise InputError(f"{path}: the last line has no end, so the file is cut off; {_NEXT}")
    if rows and rows[0][0] in ("filename", "metric"):
        for number, row in enumerate(rows, start=1):
            if len(row) != len(rows[0]):
                raise InputError(
                    f"{path}: line {number} has {len(row)} of {len(rows[0])} columns, so the file is cut off; {_NEXT}"
                )
    return rows


def is_mean(summary: Summary, value: float | None) -> bool:
    """Return whether the value of a metric is the mean over the cases of its table, which is rounded."""
    if value is None or not math.isfinite(value):
        return True
    return math.isclose(value, summary.mean, rel_tol=1e-3, abs_tol=1e-4)
