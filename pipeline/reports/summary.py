"""Scores of a run by case: mean, median, spread, and a bootstrap interval by subject."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.issues import InputError

__all__ = ["Summary", "print_summary", "read_scores", "summarize"]

RESAMPLES = 10_000
SEED = 0


@dataclass(frozen=True)
class Summary:
    """Statistics of one metric over the cases of one run.

    Attributes:
        metric: name, with its unit (``dice_patient``).
        n: cases with a value.
        n_missing: cases without one (NaN or infinite), left out of the statistics.
        n_zero: cases with a value of 0: truth missed altogether, or foreground where there is none.
        mean: mean over cases.
        low: lower end of the 95 % percentile-bootstrap interval of the mean (Efron 1979); None for fewer than 2 cases.
        high: upper end of it.
        median: median over cases.
        sd: standard deviation over cases (n - 1); None for fewer than 2 cases.
        worst: id and value of the case with the smallest value.
    """

    metric: str
    n: int
    n_missing: int
    n_zero: int
    mean: float
    low: float | None
    high: float | None
    median: float
    sd: float | None
    worst: tuple[str, float]


def read_scores(table: str | Path) -> dict[str, float]:
    """Read ``<metric>_raw.csv`` as MONAI's ``MetricsSaver`` writes it: a line a case, the last column its mean.

    Returns:
        Score by case id; NaN where the metric has no value.

    Raises:
        InputError: the file is not such a table, or names a case twice.
    """
    path = Path(table)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or "filename" not in rows[0] or "mean" not in rows[0]:
        raise InputError(f"{path}: expected a table of scores with the columns filename and mean")
    scores: dict[str, float] = {}
    for row in rows:
        case = row["filename"]
        try:
            score = float(row["mean"])
        except (TypeError, ValueError):
            raise InputError(f"{path}: the score of {case} is {row['mean']!r}, expected a number") from None
        if case in scores:
            raise InputError(f"{path}: {case} occurs twice, expected one line a case")
        scores[case] = score
    return scores


def summarize(metric: str, scores: dict[str, float], *, resamples: int = RESAMPLES, seed: int = SEED) -> Summary:
    """Summarise the scores of one metric; the unit that is resampled is the case, which is a patient here.

    Args:
        metric: name of the metric.
        scores: score by case id, NaN for none.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    Raises:
        ValueError: no case has a value.

    Example:
        >>> result = summarize("dice_patient", {"a": 0.8, "b": 0.9, "c": float("nan")})
        >>> result.n, result.n_missing, round(result.mean, 3), result.worst
        (2, 1, 0.85, ('a', 0.8))
    """
    import numpy as np

    valid = {case: score for case, score in scores.items() if math.isfinite(score)}
    if not valid:
        raise ValueError(f"{metric}: no case has a value")
    values = np.array(list(valid.values()))
    low = high = sd = None
    if len(values) > 1:
        draws = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
        low, high = (float(end) for end in np.percentile(values[draws].mean(axis=1), (2.5, 97.5)))
        sd = float(values.std(ddof=1))
    worst = min(valid, key=lambda case: valid[case])
    return Summary(
        metric=metric,
        n=len(values),
        n_missing=len(scores) - len(valid),
        n_zero=int((values == 0).sum()),
        mean=float(values.mean()),
        low=low,
        high=high,
        median=float(np.median(values)),
        sd=sd,
        worst=(worst, valid[worst]),
    )


def print_summary(directory: str | Path, as_json: bool = False) -> int:
    """Print a table of every ``<metric>_raw.csv`` in a run's folder to stdout.

    A metric without any value is named on stderr and left out.

    Args:
        directory: the ``output_dir`` of a training or an evaluation.
        as_json: print JSON instead.

    Returns:
        Exit code 0.

    Raises:
        InputError: the folder is missing or holds no such table, or none with a value.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected the output_dir of a training or an evaluation")
    tables = sorted(folder.glob("*_raw.csv"))
    if not tables:
        raise InputError(f"{folder} holds no <metric>_raw.csv; run evaluate.json with --output_dir {folder} first")
    summaries = []
    for path in tables:
        try:
            summaries.append(summarize(path.name.removesuffix("_raw.csv"), read_scores(path)))
        except ValueError as error:
            print(error, file=sys.stderr)
    if not summaries:
        raise InputError(f"{folder}: no case has a value in {', '.join(path.name for path in tables)}")
    if as_json:
        json.dump([asdict(summary) for summary in summaries], sys.stdout, indent=2)
        print()
    else:
        print(_format_table(summaries))
    return 0


def _format_table(summaries: list[Summary]) -> str:
    header = ("metric", "n", "missing", "mean", "95 % interval", "median", "sd", "zeros", "worst case")
    rows = [header]
    for s in summaries:
        interval = "-" if s.low is None or s.high is None else f"{s.low:.3f} to {s.high:.3f}"
        sd = "-" if s.sd is None else f"{s.sd:.3f}"
        worst = f"{s.worst[1]:.3f} {s.worst[0]}"
        counts = (s.metric, str(s.n), str(s.n_missing))
        rows.append((*counts, f"{s.mean:.3f}", interval, f"{s.median:.3f}", sd, str(s.n_zero), worst))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, f"95 % interval: percentile bootstrap by case, {RESAMPLES} resamples, seed {SEED}"])
