"""Cross-validate: check, run what is not done yet, merge, and say what came of it."""

import contextlib
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.crossval.crossval_options import CrossvalOptions
from pipeline.crossval.experiment import Experiment, find_folder, open_experiment
from pipeline.crossval.fold_ensemble import write_ensemble
from pipeline.crossval.fold_job import LOG, FoldJob, FoldResult, find_result, run_fold
from pipeline.crossval.merged_run import merge_folds
from pipeline.crossval.settings_record import keep_settings
from pipeline.crossval.sweep import list_settings
from pipeline.crossval.time_shares import find_share
from pipeline.handlers.logs.progress_display import format_duration
from pipeline.handlers.run.run_lock import lock_folder
from pipeline.issues import InputError
from pipeline.reports.comparison_page import print_comparison, write_comparison
from pipeline.reports.fold_spread import list_spread
from pipeline.reports.run_page import find_key_metric
from pipeline.reports.run_summary import format_interval
from pipeline.runs.run_folder import Run

#: File of a sweep's comparison
COMPARISON = "compare.md"
# As the bundles' logging.conf formats a line.
_LOGGED = re.compile(r"\d\d:\d\d:\d\d (?:INFO|WARNING) ")


def cross_validate(options: CrossvalOptions) -> int:
    """Train and score every fold of every setting, and merge them.

    Finished folds are skipped and interrupted ones are resumed, so the same call goes on where another one stopped. A
    fold that fails does not keep the others from running.

    Args:
        options: what is asked for.

    Returns:
        0, or 1 if a fold failed; then nothing is merged for its setting.

    Raises:
        InputError: something is wrong before anything is trained, or the folds cannot be merged.
    """
    settings = list_settings(options.sweeps)
    _check_numbers(options)
    experiments = [open_experiment(options, name, words) for name, words in settings.items()]
    folder = find_folder(options)
    with lock_folder(folder):
        for experiment in experiments:
            keep_settings(experiment)
        results = _run_jobs(experiments, options)
        complete = [_finish(one, results) for one in experiments if not _list_failed(one, results)]
    failed = [result for result in results if result.error]
    if failed:
        print(
            f"{len(failed)} of {len(results)} folds failed, so there is no report of all; mend that and type the same "
            "command again: finished folds are kept",
            file=sys.stderr,
        )
        return 1
    if len(complete) > 1:
        _compare([str(run.folder) for run in complete], folder)
    return 0


def _check_numbers(options: CrossvalOptions) -> None:
    least = {"hours": 1e-9, "gpus_per_fold": 0.0, "cpus_per_fold": 1e-9}
    for name, number in ((name, getattr(options, name)) for name in least):
        if number is None:
            continue
        if not math.isfinite(number) or number < least[name]:
            raise InputError(f"--{name} expects a number {'from' if not least[name] else 'above'} 0, got {number:g}")
        if name != "hours" and options.cluster is None:
            raise InputError(f"--{name} is for a cluster; add --cluster local, or leave it out")


def _run_jobs(experiments: Sequence[Experiment], options: CrossvalOptions) -> list[FoldResult]:
    """Run what is not done, and return the results of all folds."""
    jobs = [job for experiment in experiments for job in experiment.list_jobs()]
    done = [result for job in jobs if (result := find_result(Path(job.folder))) is not None]
    known = {(result.setting, result.fold) for result in done}
    waiting = [job for job in jobs if (job.setting, job.fold) not in known]
    _tell(f"{len(jobs)} folds, {len(done)} of them are done" if done else f"{len(jobs)} folds")
    began, first = time.monotonic(), len(done)
    with contextlib.closing(_queue(waiting, done, options)) as queue:
        for result in queue:
            done.append(result)
            passed = time.monotonic() - began
            _tell(_describe_result(result, len(jobs) - len(done), passed / (len(done) - first)))
    return done


def _queue(waiting: Sequence[FoldJob], done: list[FoldResult], options: CrossvalOptions) -> Generator[FoldResult]:
    """Yield the result of each job, on a cluster in the order of their ends; the caller adds it to those done."""
    if waiting and options.cluster is not None:
        from pipeline.crossval.ray_cluster import run_on_cluster

        share = find_share(options.hours, [result.seconds for result in done], len(waiting))
        _tell(f"on a Ray cluster ({options.cluster}); what each fold says is in {waiting[0].folder}/{LOG} and the like")
        yield from run_on_cluster([replace(job, seconds=share) for job in waiting], options, _tell)
        return
    for place, job in enumerate(waiting):
        share = find_share(options.hours, [result.seconds for result in done], len(waiting) - place)
        _tell(f"{job.title}: training, everything it says is in {job.folder}/{LOG}")
        yield run_fold(replace(job, seconds=share), _echo)


def _echo(line: str) -> None:
    """Print what a training logs, but for MONAI's summary of the command at its start."""
    if _LOGGED.match(line):
        _tell(f"  {line}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _describe_result(result: FoldResult, left: int, each: float) -> str:
    title = f"{result.setting} fold {result.fold}".strip()
    rest = f"{left} left, about {format_duration(left * each)}" if left else "all done"
    if result.error:
        return f"{title} failed: {result.error}; {rest}"
    ends = {"time": ", its time was over", "early stop": ", early stop"}.get(result.ended, "")
    score = f"{result.metric} {result.score:.4f}" if result.score is not None else "no score"
    epochs = f"{result.epochs} of {result.max_epochs} epochs{ends}"
    return f"{title}: {score} on {result.n_cases} cases, {epochs}, {format_duration(result.seconds)}; {rest}"


def _list_failed(experiment: Experiment, results: Sequence[FoldResult]) -> list[FoldResult]:
    return [result for result in results if result.setting == experiment.setting and result.error]


def _finish(experiment: Experiment, results: Sequence[FoldResult]) -> Run:
    """Merge the folds of an experiment, write its ensemble, and print what there is."""
    own = sorted((one for one in results if one.setting == experiment.setting), key=lambda result: result.fold)
    run = merge_folds(experiment, own)
    ensemble = write_ensemble(experiment, [result.fold for result in own])
    print("\n".join(_describe_run(experiment, run, ensemble)))
    return run


def _describe_run(experiment: Experiment, run: Run, ensemble: Path | None) -> list[str]:
    key = find_key_metric(run)
    lines = [f"{experiment.folder}: no case has a value"]
    if key is not None:
        summary = run.summaries[key]
        interval = format_interval(summary.low, summary.high)
        why = f"95 % interval {interval}" if summary.low is not None else f"no interval: {summary.why_not}"
        lines = [f"{experiment.folder}: {key} {summary.mean:.4f} ({why}), {summary.n} {summary.unit}s out of fold"]
    lines += list_spread(run)
    lines.append(f"report:   python -m pipeline report {_quote(run.folder)} -o {_quote(run.folder / 'page.html')}")
    if ensemble is not None:
        bundle = experiment.bundle.name if experiment.bundle.parent == Path("bundles") else str(experiment.bundle)
        command = f"python -m pipeline predict {_quote(bundle)} IMAGES -o masks --config_file {_quote(ensemble)}"
        lines.append(f"ensemble: {command}")
    return lines


def _quote(path: str | Path) -> str:
    return shlex.quote(os.fspath(path))


def _compare(folders: Sequence[str], folder: Path) -> None:
    write_comparison(folders, folder / COMPARISON)
    print_comparison(folders)
    print(folder / COMPARISON)
