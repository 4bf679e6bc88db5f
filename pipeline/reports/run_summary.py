"""Print the scores of a run: mean and median with intervals by subject, spread, empty masks, worst case."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.issues import show_controls
from pipeline.reports.fold_spread import list_spread
from pipeline.runs.description import Summary
from pipeline.runs.description import summarize as summarize
from pipeline.runs.metric_names import is_count, is_small_good
from pipeline.runs.reliability import ALL_METRICS, DOUBT
from pipeline.runs.run_folder import Run, finite, read_run
from pipeline.runs.tables import read_scores as read_scores
from pipeline.runs.tables import read_values as read_values
from pipeline.statistics.intervals import RESAMPLES, SEED

_HEADER = ("metric", "n", "missing", "mean", "95 % interval", "median", "95 % interval", "sd", "zeros", "worst case")
_TOO_FEW = "-"


def print_summary(directory: str | Path, as_json: bool = False) -> int:
    """Print the metrics in a run's folder.

    A metric that is a mean over cases gets a line of statistics; another one, such as a pooled one, only its value.
    Metrics without a value go to stderr.

    Args:
        directory: the ``output_dir`` of a training or an evaluation.
        as_json: print JSON instead: a `Summary` for each mean over cases, then ``{"metric", "value"}`` for each single
            value; in a training, each with the ``epoch`` and whether that ``is_best``.

    Returns:
        Exit code 0.

    Raises:
        InputError: as `read_run`.
    """
    run = read_run(directory)
    for name in run.without_value:
        print(f"{name}: no case has a value", file=sys.stderr)
    if as_json:
        json.dump(to_entries(run), sys.stdout, indent=2)
        print()
        return 0
    summaries = [s for name, s in run.summaries.items() if name not in (DOUBT, *ALL_METRICS)]
    lines = [*describe_weights(run), *_format_table(summaries), *_format_values(run.values)]
    print("\n".join(map(show_controls, [*lines, *list_spread(run), *describe_methods(summaries)])))
    return 0


def print_summaries(directories: Sequence[str | Path], as_json: bool = False) -> int:
    """Print the metrics in several runs' folders, see `print_summary`; as JSON one list by folder.

    Returns:
        Exit code 0.

    Raises:
        InputError: as `read_run`.
    """
    if as_json:
        json.dump({str(directory): to_entries(read_run(directory)) for directory in directories}, sys.stdout, indent=2)
        print()
        return 0
    for directory in directories:
        print(show_controls(directory))
        print_summary(directory)
    return 0


def to_entries(run: Run) -> list[dict[str, Any]]:
    """Return what `print_summary` prints as JSON."""
    added: dict[str, Any] = {}
    if run.is_training:
        known = run.epoch is not None and run.best_epoch is not None
        added = {"epoch": run.epoch, "is_best": run.epoch == run.best_epoch if known else None}
    singles = [{"metric": name, "value": finite(value)} for name, value in run.values.items()]
    return [entry | added for entry in (*(asdict(summary) for summary in run.summaries.values()), *singles)]


def describe_weights(run: Run) -> list[str]:
    """Return what a reader must know first, in at most one line.

    Of a training: which weights the scores belong to. Of an evaluation: whether the weights had seen its cases.
    """
    if not run.is_training:
        checkpoint = run.record.get("checkpoint")
        seen = checkpoint.get("seen_in_training") if isinstance(checkpoint, Mapping) else None
        return [f"{seen} of these cases were in the training of the weights: no scores of new cases"] if seen else []
    next_step = "for the scores of model.pt run evaluate.json with it as --checkpoint"
    if run.epoch is None:
        return [f"scores of the last validation of an older run; model.pt holds the best one: {next_step}"]
    if run.best_epoch is None or run.best_epoch == run.epoch:
        return [f"scores of the validation after epoch {run.epoch}, the best so far: those of model.pt"]
    return [f"scores of the validation after epoch {run.epoch}, but model.pt is of epoch {run.best_epoch}: {next_step}"]


def _format_values(values: Mapping[str, float]) -> list[str]:
    """Return up to two lines: values without statistics over cases, and counts of cases."""
    counts = [f"{name} {value:g}" for name, value in values.items() if is_count(name)]
    others = [f"{name} {value:.4f}" for name, value in values.items() if not is_count(name)]
    named = (("one value for all cases", others), ("cases", counts))
    return [f"{title}: {', '.join(texts)}" for title, texts in named if texts]


def _format_table(summaries: Sequence[Summary]) -> list[str]:
    if not summaries:
        return []
    rows = [_HEADER, *(_format_row(summary) for summary in summaries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _format_row(s: Summary) -> tuple[str, ...]:
    return (
        s.metric,
        str(s.n),
        str(s.n_missing),
        f"{s.mean:.3f}",
        format_interval(s.low, s.high),
        f"{s.median:.3f}",
        format_interval(s.median_low, s.median_high),
        "-" if s.sd is None else f"{s.sd:.3f}",
        "-" if is_small_good(s.metric) else str(s.n_zero),
        f"{s.worst[1]:.3f} {s.worst[0]}",
    )


def format_interval(low: float | None, high: float | None) -> str:
    """Return an interval, or "-" for none."""
    return _TOO_FEW if low is None or high is None else f"{low:.3f} to {high:.3f}"


def describe_methods(summaries: Sequence[Summary]) -> list[str]:
    """Return lines about units, subjects, empty masks and intervals, each with the metrics that it is about."""
    if not summaries:
        return []
    texts: list[tuple[str, str]] = []
    for s in summaries:
        texts.append((f"n: {describe_unit(s)}", s.metric))
        texts.append((describe_empty(s), s.metric))
        texts += [(f"no interval: {text}", s.metric) for text in (s.why_not, s.median_why_not) if text]
    lines = []
    for text in dict.fromkeys(text for text, _ in texts):
        named = list(dict.fromkeys(metric for other, metric in texts if other == text))
        lines.append(text if len(named) == len(summaries) else f"{text} ({', '.join(named)})")
    means = {s.method for s in summaries if s.low is not None}
    medians = {s.median_method for s in summaries if s.median_low is not None}
    drawn = f", {RESAMPLES} resamples, seed {SEED}"
    ends = [*(f"mean by {name}{drawn}" for name in sorted(means)), *(f"median by {name}" for name in sorted(medians))]
    return [*lines, *([f"95 % interval, unit of resampling: subject; {'; '.join(ends)}"] if ends else [])]


def describe_unit(s: Summary) -> str:
    """Return how many cases of how many subjects there are."""
    known = f"{s.unit}s of {_count(s.n_subjects, 'subject')}"
    if not s.n_ungrouped:
        return known
    return (
        f"{known}, {s.n_ungrouped} without a known one, each counted for itself: if several are of one patient, "
        "the intervals are too narrow"
    )


def describe_empty(s: Summary) -> str:
    """Return policy and counts of empty masks."""
    if s.n_empty is None or s.n_missed is None:
        return "empty masks: not recorded"
    policy = f"policy {s.empty_policy}, " if s.empty_policy else ""
    return f"empty masks: {policy}{s.n_empty} without truth, {s.n_missed} missed"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
