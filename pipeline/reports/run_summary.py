"""Summaries of a run's scores over cases: mean, bootstrap interval, median, standard deviation, worst case."""

import csv
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.issues import InputError, show_controls
from pipeline.statistics.intervals import RESAMPLES, SEED, bootstrap_mean

#: Names of metrics for which smaller is better (``hd95_posterior``)
_SMALL_IS_GOOD = re.compile(r"(?:^|_)(?:hd\d*|assd|asd|distance|loss|error)(?:_|$)")
_POOLED = "_pooled"  # unit of a metric that is not a mean over cases
_COUNT = "n_"  # metrics that count cases


@dataclass(frozen=True)
class Summary:
    """Statistics of one metric over the cases of one run."""

    metric: str  #: name, with its unit (``dice_patient``)
    n: int  #: cases with a value
    n_missing: int  #: cases without one (NaN or infinite), left out of the statistics
    n_zero: int  #: cases with a value of 0: the truth is missed completely, or there is foreground but no truth
    mean: float  #: mean over cases
    #: lower end of the 95 % percentile-bootstrap interval of the mean (Efron 1979); None for fewer than 2 cases
    low: float | None
    high: float | None  #: upper end of it
    median: float  #: median over cases
    sd: float | None  #: standard deviation over cases (n - 1); None for fewer than 2 cases
    worst: tuple[str, float]  #: id and value of the case with the smallest value, of distances and losses the largest


def read_scores(table: str | Path) -> dict[str, float]:
    """Read ``<metric>_raw.csv`` as MONAI's ``MetricsSaver`` writes it: one line per case, the mean last.

    Returns:
        Score by case id; NaN where the metric has no value.

    Raises:
        InputError: the file is not such a table, or lists a case twice.
    """
    path = Path(table)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or "filename" not in rows[0] or "mean" not in rows[0]:
        raise InputError(f"{path}: expected a table of scores with the columns filename and mean")
    scores: dict[str, float] = {}
    # An apostrophe keeps spreadsheets from computing a name, see `pipeline.handlers.CaseMetricsSaver`.
    for case, text in ((re.sub("^'(?=[=+@-])", "", row["filename"]), row["mean"]) for row in rows):
        if case in scores:
            raise InputError(f"{path}: {case} occurs twice, expected one line per case")
        try:
            scores[case] = float(text)
        except (TypeError, ValueError):
            raise InputError(f"{path}: the score of {case} is {text!r}, expected a number") from None
    return scores


def read_values(table: str | Path) -> dict[str, float]:
    """Read ``metrics.csv`` as MONAI's ``MetricsSaver`` writes it: one value per metric.

    Returns:
        Value by metric, without those that are not a single number; empty if there is no such file.
    """
    path = Path(table)
    values: dict[str, float] = {}
    if path.is_file():
        with path.open(newline="") as stream:
            for row in csv.reader(stream):
                try:
                    values[row[0]] = float(row[1])
                except (IndexError, ValueError):  # a metric by class is written as a tensor
                    continue
    return values


def summarize(metric: str, scores: dict[str, float], *, resamples: int = RESAMPLES, seed: int = SEED) -> Summary:
    """Summarise the scores of one metric; the unit of resampling is the case.

    Args:
        metric: name of the metric.
        scores: score by case id, NaN for none.
        resamples: number of bootstrap resamples.
        seed: random seed of the resampling.

    Raises:
        ValueError: no case has a value.

    Example:
        >>> result = summarize("dice_patient", {"a": 0.8, "b": 0.9, "c": float("nan")})
        >>> result.n, result.n_missing, round(result.mean, 3), result.worst
        (2, 1, 0.85, ('a', 0.8))
    """
    valid = {case: score for case, score in scores.items() if math.isfinite(score)}
    if not valid:
        raise ValueError(f"{metric}: no case has a value")
    values = np.array(list(valid.values()))
    low, high = bootstrap_mean(values, resamples=resamples, seed=seed)
    find_worst = max if _SMALL_IS_GOOD.search(metric) else min
    worst = find_worst(valid, key=lambda case: valid[case])
    return Summary(
        metric=metric,
        n=len(values),
        n_missing=len(scores) - len(valid),
        n_zero=int((values == 0).sum()),
        mean=float(values.mean()),
        low=low,
        high=high,
        median=float(np.median(values)),
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        worst=(worst, valid[worst]),
    )


def print_summary(directory: str | Path, as_json: bool = False) -> int:
    """Print the metrics in a run's folder.

    A metric with a ``<metric>_raw.csv`` gets a line of statistics over its cases. A metric without such a table, or
    that is not a mean over cases, has only its value in ``metrics.csv``. Metrics without a value go to stderr.

    Args:
        directory: the ``output_dir`` of a training or an evaluation.
        as_json: print JSON instead: a `Summary` for each table, then ``{"metric", "value"}`` for each single value.

    Returns:
        Exit code 0.

    Raises:
        InputError: the folder is missing or holds no such table, or none with a value.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected the output_dir of a training or an evaluation")
    tables = sorted(folder.glob("*_raw.csv"))
    values = read_values(folder / "metrics.csv")
    if not tables and not values:
        raise InputError(f"{folder} holds no <metric>_raw.csv; run evaluate.json with --output_dir {folder} first")
    summaries = _summarize_tables(tables, values)
    if not summaries and not values:
        raise InputError(f"{folder}: no case has a value in {', '.join(path.name for path in tables)}")
    if as_json:
        singles = [{"metric": name, "value": value if math.isfinite(value) else None} for name, value in values.items()]
        json.dump([*(asdict(summary) for summary in summaries), *singles], sys.stdout, indent=2)
        print()
    else:
        print("\n".join(map(show_controls, [*_format_table(summaries), *_format_values(values)])))
    return 0


def _summarize_tables(tables: Sequence[Path], values: dict[str, float]) -> list[Summary]:
    """Return the statistics of each table, and remove its metric from ``values``."""
    summaries = []
    for path in tables:
        metric = path.name.removesuffix("_raw.csv")
        try:
            summary = summarize(metric, read_scores(path))
        except ValueError as error:
            values.pop(metric, None)  # MONAI writes 0.0 for it
            print(error, file=sys.stderr)
            continue
        if _is_mean(summary, values.get(metric)):
            values.pop(metric, None)
            summaries.append(summary)
    return summaries


def _is_mean(summary: Summary, value: float | None) -> bool:
    """Return whether the value of a metric is the mean over the cases of its table."""
    if summary.metric.endswith(_POOLED) or summary.metric.startswith(_COUNT):
        return value is None
    if value is None or not math.isfinite(value):
        return True
    return math.isclose(value, summary.mean, rel_tol=1e-3, abs_tol=1e-4)  # tables are rounded


def _format_values(values: Mapping[str, float]) -> list[str]:
    """Return up to two lines: values without statistics over cases, and counts of cases."""
    counts = [f"{name} {value:g}" for name, value in values.items() if name.startswith(_COUNT)]
    others = [f"{name} {value:.4f}" for name, value in values.items() if not name.startswith(_COUNT)]
    named = (("one value for all cases", others), ("cases", counts))
    return [f"{title}: {', '.join(texts)}" for title, texts in named if texts]


def _format_table(summaries: Sequence[Summary]) -> list[str]:
    if not summaries:
        return []
    header = ("metric", "n", "missing", "mean", "95 % interval", "median", "sd", "zeros", "worst case")
    rows = [header]
    for s in summaries:
        interval = "-" if s.low is None or s.high is None else f"{s.low:.3f} to {s.high:.3f}"
        sd = "-" if s.sd is None else f"{s.sd:.3f}"
        zeros = "-" if _SMALL_IS_GOOD.search(s.metric) else str(s.n_zero)
        worst = f"{s.worst[1]:.3f} {s.worst[0]}"
        counts = (s.metric, str(s.n), str(s.n_missing))
        rows.append((*counts, f"{s.mean:.3f}", interval, f"{s.median:.3f}", sd, zeros, worst))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, f"95 % interval: percentile bootstrap by case, {RESAMPLES} resamples, seed {SEED}"]
