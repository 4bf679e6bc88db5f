"""The page of one run or several: HTML that opens from disk without a request, Markdown, or JSON.

A section is a function in `SECTIONS` that returns what it says, or None if that is nothing, and a template of its name
for each format in ``templates/parts``. What JSON leaves out, such as pictures, has a name with an underscore.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from pipeline.issues import InputError
from pipeline.reports.ablation_section import describe_ablation
from pipeline.reports.calibration_section import describe_calibration
from pipeline.reports.case_views import draw_views
from pipeline.reports.checklist import fill_checklist
from pipeline.reports.fold_spread import describe_spread
from pipeline.reports.pages import render_template, write_page
from pipeline.reports.plots import draw_distribution
from pipeline.reports.review_section import rank_cases
from pipeline.reports.run_summary import describe_methods, describe_weights, to_entries
from pipeline.reports.training_curves import draw_curves
from pipeline.runs.description import Summary
from pipeline.runs.metric_names import is_count, is_small_good
from pipeline.runs.reliability import is_of_probabilities
from pipeline.runs.run_folder import Run, finite, read_run
from pipeline.runs.tables import METRICS, read_metrics

#: Formats of a page by the ending of its file
FORMATS = (".html", ".md", ".json")
_PROVENANCE = (
    *("command", "status", "started", "ended", "duration_seconds", "seed", "epochs", "max_epochs", "device"),
    *("processes", "dataset_dir", "schema", "error"),
)


def write_run_page(folders: Sequence[str | Path], path: str | Path) -> Path:
    """Write the page of one or more runs.

    Args:
        folders: their ``output_dir``.
        path: the file; its ending says the format, one of `FORMATS`.

    Raises:
        InputError: as `read_run`, or the ending is unknown.
        OSError: the file cannot be written.
    """
    check_format(path)
    return write_page(render_run_page(folders, Path(path).suffix.lower()), path)


def check_format(path: str | Path) -> None:
    """Require an ending of `FORMATS`.

    Raises:
        InputError: it is another one.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise InputError(f"-o {path}: expected a name that ends in {', '.join(FORMATS)}")


def render_run_page(folders: Sequence[str | Path], form: str = ".html") -> str:
    """Return the page as text; see `write_run_page`."""
    pages = [describe_run(read_run(folder)) for folder in folders]
    if form == ".json":
        return json.dumps(to_json(pages), indent=2) + "\n"
    return render_template(f"run{form}", pages=pages, sections=list(SECTIONS))


def describe_run(run: Run) -> dict[str, Any]:
    """Return what the page says, by section."""
    return {"folder": str(run.folder), **{name: describe(run) for name, describe in SECTIONS.items()}}


def find_key_metric(run: Run) -> str | None:
    """Return the first mean over cases in ``metrics.csv``, which MONAI's key metric is; None if there is none."""
    names = [name for name in read_metrics(run.folder / METRICS) if name in run.summaries]
    return next((name for name in [*names, *run.summaries] if not is_of_probabilities(name)), None)


def _list_summaries(run: Run) -> list[Summary]:
    """Return the statistics of the masks; those of the probabilities have a section of their own."""
    return [summary for name, summary in run.summaries.items() if not is_of_probabilities(name)]


def _summarize(run: Run) -> dict[str, Any]:
    summaries = _list_summaries(run)
    return {
        "metrics": to_entries(run),
        "rows": [asdict(summary) for summary in summaries],
        "counts": {name: finite(value) for name, value in run.values.items() if is_count(name)},
        "values": {name: finite(value) for name, value in run.values.items() if not is_count(name)},
        "without_value": list(run.without_value),
        "notes": [*describe_weights(run), *describe_methods(summaries)],
    }


def _distribute(run: Run) -> list[dict[str, Any]]:
    drawn = []
    for summary in _list_summaries(run):
        name = summary.metric
        scores = [score for score in run.tables[name].scores.values() if math.isfinite(score)]
        is_share = not is_small_good(name) and min(scores) >= 0 and max(scores) <= 1
        plot = draw_distribution(scores, summary.mean, summary.median, (0.0, 1.0) if is_share else None)
        drawn.append({"metric": name, "q1": summary.q1, "q3": summary.q3, "n_zero": summary.n_zero, "_plot": plot})
    return drawn


def _list_cases(run: Run) -> dict[str, Any]:
    """Return the scores of each case, the worst by the key metric first."""
    key = find_key_metric(run)
    names = [key, *(s.metric for s in _list_summaries(run) if s.metric != key)] if key else []
    tables = [run.tables[name] for name in names if name is not None]
    cases = list(dict.fromkeys(case for table in tables for case in table.scores))
    rows = [
        {
            "case": case,
            "subject": next((table.subjects[case] for table in tables if table.subjects.get(case)), ""),
            "scores": [finite(table.scores.get(case)) for table in tables],
        }
        for case in cases
    ]
    sign = -1 if key and is_small_good(key) else 1
    rows.sort(key=lambda row: math.inf if row["scores"][0] is None else sign * row["scores"][0])
    return {"metrics": names, "unit": tables[0].unit if tables else "case", "rows": rows}


def _draw_cases(run: Run) -> dict[str, Any]:
    drawn = draw_views(run, find_key_metric(run))
    views = drawn.pop("views")
    shown = [{"case": view.case_id, "kind": view.kind, "rank": view.rank, "score": view.score} for view in views]
    return {**drawn, "metric": find_key_metric(run), "cases": shown, "_views": views}


def _trace(run: Run) -> dict[str, Any]:
    """Return where the numbers come from."""
    record: Mapping[str, Any] = run.record
    manifest, git = record.get("manifest"), record.get("git")
    facts = {name: record[name] for name in _PROVENANCE if record.get(name) is not None}
    if isinstance(manifest, Mapping):
        facts |= {"manifest": manifest.get("path"), "manifest_sha256": manifest.get("sha256")}
    if isinstance(git, Mapping):
        facts |= {"git_revision": git.get("revision"), "git_dirty": git.get("dirty")}
    checkpoint = record.get("checkpoint")
    if isinstance(checkpoint, Mapping):
        facts |= {"checkpoint": checkpoint.get("path"), "checkpoint_sha256": checkpoint.get("sha256")}
    if isinstance(record.get("config"), Mapping):
        facts |= {name: record["config"].get(name) for name in ("split", "fold")}
    versions = record.get("versions")
    if isinstance(versions, Mapping):
        facts |= {f"version_{name}": version for name, version in versions.items()}
    return {name: value for name, value in facts.items() if value is not None}


#: What a page says, in this order
SECTIONS: dict[str, Callable[[Run], Any]] = {
    "summary": _summarize,
    "folds": describe_spread,
    "distribution": _distribute,
    "pictures": _draw_cases,
    "cases": _list_cases,
    "review": lambda run: rank_cases(run, find_key_metric(run)),
    "calibration": describe_calibration,
    "ablation": describe_ablation,
    "curves": draw_curves,
    "provenance": _trace,
    "checklist": fill_checklist,
}


def to_json(item: Any) -> Any:
    """Return what a page says without pictures, and without numbers that JSON lacks."""
    if is_dataclass(item) and not isinstance(item, type):
        return to_json(asdict(item))
    if isinstance(item, Mapping):
        return {name: to_json(value) for name, value in item.items() if not str(name).startswith("_")}
    if isinstance(item, list | tuple):
        return [to_json(value) for value in item]
    return finite(item) if isinstance(item, float) else item
