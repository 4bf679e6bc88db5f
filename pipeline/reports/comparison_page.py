"""A comparison of runs as text, as a page, or as JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.datasets.checks.report import plural
from pipeline.issues import show_controls
from pipeline.reports.pages import format_number, format_p, render_template, write_page
from pipeline.reports.run_comparison import (
    FEW_SUBJECTS,
    Comparison,
    MetricComparison,
    compare_experiments,
    read_experiments,
)
from pipeline.reports.run_page import check_format, to_json
from pipeline.statistics.intervals import RESAMPLES, SEED
from pipeline.statistics.paired import METHOD

_HEADER = ("first", "second", "second - first", "95 % interval", "n", "Wilcoxon p", "permutation p", "Holm")
_UNSEEN = "an interval holds for differences like those seen, not for a rare case that one run misses; the test decides"
_LAST = ("false claim", "can be shown", "verdict")


def print_comparison(words: Sequence[str], as_json: bool = False) -> int:
    """Print a comparison of runs, see `read_experiments`.

    Returns:
        Exit code 0.

    Raises:
        InputError: as `read_experiments` and `compare_experiments`.
    """
    comparison = compare_experiments(read_experiments(words))
    if as_json:
        json.dump(describe_comparison(comparison), sys.stdout, indent=2)
        print()
        return 0
    lines = [line for metric in comparison.metrics for line in _format_metric(metric)]
    for name, found in comparison.differences.items():
        lines.append(f"config of {comparison.experiments[0].name} -> {name}: {plural(len(found), 'difference')}")
        lines += [f"  {item.one_line()}" for item in found]
    print("\n".join(map(show_controls, [*lines, *explain(comparison)])))
    return 0


def write_comparison(words: Sequence[str], path: str | Path) -> Path:
    """Write a comparison of runs as a page; the ending of ``path`` says the format.

    Raises:
        InputError: as `print_comparison`, or the ending is unknown.
        OSError: the file cannot be written.
    """
    check_format(path)
    said = describe_comparison(compare_experiments(read_experiments(words)))
    form = Path(path).suffix.lower()
    if form == ".json":
        return write_page(json.dumps(said, indent=2) + "\n", path)
    return write_page(render_template(f"comparison{form}", **said), path)


def describe_comparison(comparison: Comparison) -> dict[str, Any]:
    """Return what the page says."""
    return {
        "experiments": [
            {"name": experiment.name, "runs": [str(run.folder) for run in experiment.runs]}
            for experiment in comparison.experiments
        ],
        "metrics": to_json([asdict(metric) for metric in comparison.metrics]),
        "differences": {
            name: [
                {"section": item.section, "place": item.place, "first": item.first, "second": item.second}
                for item in found
            ]
            for name, found in comparison.differences.items()
        },
        "notes": explain(comparison),
    }


def explain(comparison: Comparison) -> list[str]:
    """Return how the numbers were computed, and what they do not show."""
    pairs = [pair for metric in comparison.metrics for pair in metric.pairs]
    several = sum(len(experiment.runs) > 1 for experiment in comparison.experiments)
    few = min(pair.n_subjects for pair in pairs)
    return [
        f"paired by case; tests and intervals by subject; {METHOD}, {RESAMPLES} resamples, seed {SEED}",
        *(_tell_left_out(metric) for metric in comparison.metrics if any(pair.n_single for pair in metric.pairs)),
        *(f"no interval: {reason}" for reason in dict.fromkeys(pair.why_not for pair in pairs) if reason),
        *([f"{few} subjects: {_UNSEEN}"] if few < FEW_SUBJECTS else []),
        "Holm: permutation p adjusted for the number of pairs of a metric, not for the number of metrics",
        "false claim: probability that the one with the better mean is not better (arXiv 2505.04720)",
        "can be shown: smallest true difference that a paired t test of so many subjects finds in 80 of 100 studies",
        *(["scores of an experiment of several runs are means over them, case by case"] if several else []),
        *(["one run each: a difference may be that of the seeds"] if several < len(comparison.experiments) else []),
        *comparison.notes,
    ]


def _tell_left_out(metric: MetricComparison) -> str:
    count = max(pair.n_single for pair in metric.pairs)
    cases = f"{count} {metric.unit}{'s' * (count > 1)}"
    return (
        f"{metric.metric}: up to {cases} of a pair have a score of one of the two only, such as a false finding where "
        "there is nothing; a difference leaves them out, a mean does not"
    )


def _format_metric(metric: MetricComparison) -> list[str]:
    better = "smaller" if metric.small_is_good else "larger"
    lines = [f"{metric.metric} ({better} is better), n: {metric.unit}s"]
    for score in metric.scores:
        runs = "" if score.sd_runs is None else f", {score.n_runs} runs, sd between them {score.sd_runs:.4f}"
        lines.append(f"  {score.experiment}: mean {score.mean:.4f}{runs}")
    rows: list[tuple[str, ...]] = [(*_HEADER, *_LAST)]
    for pair in metric.pairs:
        interval = "-" if pair.low is None else f"{pair.low:+.4f} to {pair.high:+.4f}"
        rows.append(
            (
                *(pair.first, pair.second, f"{pair.difference:+.4f}", interval, f"{pair.n_cases} of {pair.n_subjects}"),
                *(format_p(p) for p in (pair.wilcoxon_p, pair.permutation_p, pair.permutation_p_holm)),
                *(format_number(pair.false_claim), format_number(pair.smallest_difference, 4), pair.verdict),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [*lines, *("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)]
