"""The page of results, `docs/results.md`, from the records in `docs/runs`; nothing in it is typed by hand.

``docs/runs/NAME`` holds what an evaluation left, without pictures of patients: ``metrics.csv``, the tables by case and
``evaluate.json``; and ``training.json``, the ``run.json`` of the training. ``docs/runs/index.json`` puts them in order
and lists the questions. ``docs/sealed.json`` holds scores on data that are not here, filled in by whoever has them.

Keep a run: ``python -m tests.docs.results NAME EVALUATION [--training FOLDER] [--replace OLD=NEW ...]``, then
``make docs``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from pipeline.bundle.formatting import format_config
from pipeline.reports.run_comparison import Experiment, compare_experiments
from pipeline.runs.description import Summary
from pipeline.runs.reliability import ALL_METRICS, DOUBT
from pipeline.runs.run_folder import Run, read_run
from tests.docs.markdown import ROOT

RUNS = ROOT / "docs/runs"
TRAINING = "training.json"
_SMALLEST_P = 0.001
# Cells of a row of the table of bundles in `README.md`, with the empty ones at both ends.
COLUMNS = 10


def read_index(runs: Path = RUNS) -> dict[str, Any]:
    """Return the order of the page: datasets with their runs and questions."""
    index: dict[str, Any] = json.loads((runs / "index.json").read_text(encoding="utf-8"))
    return index


def render_results(runs: Path = RUNS) -> str:
    """Return the tables and answers of all datasets, as Markdown."""
    parts: list[str] = []
    for dataset in read_index(runs)["datasets"]:
        parts += [f"## {dataset['title']}", "", dataset["about"], "", *_render_runs(dataset, runs), ""]
        for question in dataset["questions"]:
            parts += [f"**{question['question']}** {_answer(question, dataset['metric'], runs)}", ""]
    return "\n".join(parts).rstrip()


def _render_runs(dataset: Mapping[str, Any], runs: Path) -> Iterator[str]:
    yield "| run | network | trained | validation score | median | time a case | weights | sealed test |"
    yield "|---|---|---|---|---|---|---|---|"
    for entry in dataset["runs"]:
        if "folder" in entry:
            yield _render_run(entry, dataset["metric"], runs)
        else:
            yield f"| {entry['name']} | {_describe_network(entry['bundle'])} | {entry['note']} | | | | | |"


def _render_run(entry: Mapping[str, Any], metric: str, runs: Path) -> str:
    run, training = read_run(runs / entry["folder"]), read_training(runs / entry["folder"])
    summary = run.summaries[metric]
    digest = run.record["checkpoint"]["sha256"]
    shipped = ROOT / "bundles" / entry["bundle"] / "models/model.pt"
    is_shipped = shipped.is_file() and _digest(shipped) == digest
    cells = (
        f"[{entry['name']}](runs/{entry['folder']})",
        _describe_network(entry["bundle"], run.record.get("config", {}).get("network_def")),
        _describe_training(training),
        f"**{describe_score(summary)}**",
        f"{summary.median:.3f}",
        f"{_find_time(run):.2g} s",
        "yes" if is_shipped else "no",
        _describe_sealed(digest),
    )
    return f"| {' | '.join(cells)} |"


def _find_time(run: Run) -> float:
    """Return the seconds of the processor for a case, loading and scoring included."""
    cases = max(summary.n + summary.n_missing for summary in run.summaries.values())
    return float(run.record.get("processor_seconds") or run.record["duration_seconds"]) / cases


def read_training(folder: Path) -> dict[str, Any]:
    """Return the record of a run's training; empty if it was not kept."""
    path = folder / TRAINING
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def describe_score(summary: Summary) -> str:
    """Return a mean with its interval, the number of cases and the unit."""
    interval = f"{summary.low:.3f} to {summary.high:.3f}" if summary.low is not None else "no interval"
    return f"{summary.mean:.3f} ({interval}; {summary.n} {summary.unit}s)"


def _describe_network(bundle: str, trained: Mapping[str, Any] | None = None) -> str:
    """Describe the network that a run had, which may be of another kind than the bundle's of today."""
    metadata = json.loads((ROOT / f"bundles/{bundle}/configs/metadata.json").read_text(encoding="utf-8"))
    train = json.loads((ROOT / f"bundles/{bundle}/configs/train.json").read_text(encoding="utf-8"))
    definition = trained or train["network_def"]
    parameters = metadata["network_parameters"]
    if definition["_target_"] != train["network_def"]["_target_"]:
        network = ConfigParser({"network_def": dict(definition)}).get_parsed_content("network_def")
        parameters = sum(parameter.numel() for parameter in network.parameters())
    return f"`{bundle}`: {definition['_target_'].rpartition('.')[2]}, {parameters / 1e6:.1f} M"


def _describe_training(training: Mapping[str, Any]) -> str:
    if not training:
        return "not recorded"
    best = (training.get("best") or {}).get("epoch")
    chosen = f", best after {best}" if best else ""
    records = [training, *training.get("previous", [])]
    seconds = [record.get("processor_seconds") for record in records]
    hours = f", {sum(seconds) / 3600:.1f} CPU hours" if all(seconds) else ""  # type: ignore[arg-type]
    return f"{training['epochs']} of {training['max_epochs']} epochs{chosen}{hours}"


def _describe_sealed(digest: str) -> str:
    known = json.loads((ROOT / "docs/sealed.json").read_text(encoding="utf-8"))["weights"].get(digest)
    return known["score"] if known else "not yet"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _answer(question: Mapping[str, Any], metric: str, runs: Path) -> str:
    """Return what a paired comparison of two experiments says; each may have several seeds."""
    if not all(question.get(side) for side in ("first", "second")):
        return f"Not answered yet: {question['open']}."
    first, second = (
        Experiment(question[f"{side}_name"], tuple(read_run(runs / folder) for folder in question[side]))
        for side in ("first", "second")
    )
    (compared,) = (one for one in compare_experiments([first, second]).metrics if one.metric == metric)
    (pair,) = compared.pairs
    means = ", ".join(
        f"{score.experiment} {score.mean:.3f}"
        + (f" ({score.n_runs} seeds, SD {score.sd_runs:.3f})" if score.sd_runs is not None else " (one seed)")
        for score in compared.scores
    )
    interval = f"{pair.low:+.3f} to {pair.high:+.3f}" if pair.low is not None else "no interval: too few subjects"
    subjects = f"{pair.n_subjects} subject{'s' * (pair.n_subjects != 1)}"
    return (
        f"{means}; paired difference {pair.difference:+.3f} ({interval}), {subjects}, "
        f"permutation p {_describe_p(pair.permutation_p)}: {pair.verdict}."
    )


def _describe_p(value: float) -> str:
    return f"{value:.3f}" if value >= _SMALLEST_P else f"below {_SMALLEST_P}"


def list_scored(runs: Path = RUNS) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the run that stands for a bundle and its dataset, by the bundle's name."""
    return {
        entry["bundle"]: (entry, dataset)
        for dataset in read_index(runs)["datasets"]
        for entry in dataset["runs"]
        if entry.get("stands_for_bundle")
    }


def render_card(bundle: str) -> str:
    """Return the scores of a bundle's run, for its model card."""
    entry, dataset = list_scored()[bundle]
    run = read_run(RUNS / entry["folder"])
    shown = [name for name in run.summaries if name not in (dataset["metric"], DOUBT, *ALL_METRICS)]
    lines = [
        "| metric | mean | 95 % interval of the mean | median | 95 % interval | worst |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_render_metric(run.summaries[name]) for name in (dataset["metric"], *shown)]
    lines += [f"| `{name}` | {value:.3g} | | | | |" for name, value in run.values.items()]
    training = _describe_training(read_training(RUNS / entry["folder"]))
    lines += [
        "",
        f"Training: {training}; {_find_time(run):.2g} s a case on one CPU core, scoring included. "
        f"Record: `docs/runs/{entry['folder']}` in the repository.",
    ]
    return "\n".join(lines)


def _render_metric(summary: Summary) -> str:
    mean = f"{summary.low:.3f} to {summary.high:.3f}" if summary.low is not None else "none, see below"
    median = f"{summary.median_low:.3f} to {summary.median_high:.3f}" if summary.median_low is not None else "none"
    cells = (f"{summary.mean:.3f}", mean, f"{summary.median:.3f}", median, f"{summary.worst[1]:.3f}")
    return f"| `{summary.metric}` | {' | '.join(cells)} |"


def renew_scores(root: Path = ROOT) -> list[Path]:
    """Write the scores of the runs that stand for a bundle into its metadata; returns the files that changed."""
    renewed = []
    for bundle, (entry, dataset) in list_scored(root / "docs/runs").items():
        path = root / "bundles" / bundle / "configs/metadata.json"
        metadata = json.loads(path.read_text(encoding="utf-8"))
        run = read_run(root / "docs/runs" / entry["folder"])
        changed = {**metadata, **_describe_scores(run, dataset, path.parents[1])}
        if changed != metadata:
            path.write_text(format_config(changed), encoding="utf-8")
            renewed.append(path)
    return renewed


def renew_table(root: Path = ROOT) -> list[Path]:
    """Write scores and weights of the metadata into the table of bundles in `README.md`; returns it if it changed."""
    path = root / "README.md"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for place, line in enumerate(lines):
        if not line.startswith("| `") or len(line.split("|")) != COLUMNS:
            continue
        cells = line.split("|")
        bundle = root / "bundles" / cells[1].strip(" `")
        metadata = json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8"))
        cells[5] = f" {metadata['validation_score']} "
        cells[6] = " yes " if (bundle / "models/model.pt").is_file() else " no "
        lines[place] = "|".join(cells)
    if "".join(lines) == path.read_text(encoding="utf-8"):
        return []
    path.write_text("".join(lines), encoding="utf-8")
    return [path]


def _describe_scores(run: Run, dataset: Mapping[str, Any], bundle: Path) -> dict[str, Any]:
    scores: dict[str, Any] = {
        "validation_score": f"{dataset['score']} {describe_score(run.summaries[dataset['metric']])}"
    }
    weights = bundle / "models/model.pt"
    if weights.is_file() and _digest(weights) == run.record["checkpoint"]["sha256"]:
        # Those of the metadata, in their order, for a key metric comes first there.
        known = json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8")).get("eval_metrics", {})
        names = known or [dataset["metric"]]
        scores["eval_metrics"] = {name: round(run.summaries[name].mean, 3) for name in names}
    return scores


def keep_run(name: str, evaluation: Path, training: Path | None, changes: Sequence[tuple[str, str]]) -> Path:
    """Copy the small files of a run into `docs/runs`, with paths of this machine replaced."""
    target = RUNS / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    files = [(path, path.name) for path in (*sorted(evaluation.glob("*.csv")), evaluation / "evaluate.json")]
    if training is not None:
        files.append((training / "run.json", TRAINING))
    for path, kept in files:
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            text = text.replace(old, new)
        (target / kept).write_text(text, encoding="utf-8")
    return target


def main() -> None:
    """Keep a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the folder in docs/runs")
    parser.add_argument("evaluation", type=Path, help="output folder of evaluate.json")
    parser.add_argument("--training", type=Path, help="output folder of the training")
    parser.add_argument("--replace", action="append", default=[], metavar="OLD=NEW", help="a path of this machine")
    arguments = parser.parse_args()
    changes = [(old, new) for old, _, new in (word.partition("=") for word in arguments.replace)]
    print(keep_run(arguments.name, arguments.evaluation, arguments.training, changes))


if __name__ == "__main__":
    main()
