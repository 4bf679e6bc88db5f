"""Make of the folder of a cross-validation a run folder like that of an evaluation: tables, record, pictures."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.crossval.experiment import Experiment
from pipeline.crossval.fold_calibration import merge_calibration
from pipeline.crossval.fold_job import EVALUATION, RESULT, WEIGHTS, FoldResult
from pipeline.crossval.fold_tables import merge_tables
from pipeline.handlers.checkpoints.atomic_save import write_json
from pipeline.handlers.run.run_record import anonymize, describe_command
from pipeline.issues import InputError
from pipeline.runs.case_slices import FOLDER
from pipeline.runs.run_folder import Run, read_run
from pipeline.runs.tables import SCHEMA

_RECORD = "evaluate.json"
_STAGE = ".crossval-"


def merge_folds(experiment: Experiment, results: Sequence[FoldResult]) -> Run:
    """Merge the evaluations of the folds into the folder of the experiment, and read it.

    What an earlier merge of fewer folds wrote is replaced; the record comes last.

    Raises:
        InputError: as `merge_tables`, or a fold's evaluation is damaged.
        OSError: a file cannot be written.
    """
    folder = experiment.folder
    for left in folder.glob(f"{_STAGE}*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    runs = {result.fold: _read_fold(folder / f"fold_{result.fold}") for result in results}
    with tempfile.TemporaryDirectory(dir=folder, prefix=_STAGE) as place:
        stage = Path(place)
        values = merge_tables(runs, stage)
        merge_calibration([run.folder for run in runs.values()], stage)
        write_json(anonymize(_describe(experiment, results, runs, values)), stage / _RECORD)
        _replace_pictures(folder, stage, runs)
        for path in sorted(stage.iterdir(), key=lambda path: path.name == _RECORD):
            os.replace(path, folder / path.name)
    return read_run(folder)


def _read_fold(folder: Path) -> Run:
    try:
        return read_run(folder / EVALUATION)
    except InputError as error:
        hint = f"delete {folder / RESULT} and type the same command, which scores the fold again"
        raise InputError(f"{error}; {hint}") from None


def _describe(
    experiment: Experiment, results: Sequence[FoldResult], runs: Mapping[int, Run], values: Mapping[str, float]
) -> dict[str, Any]:
    records = [run.record for run in runs.values()]
    first = records[0]
    same = ("seed", "versions", "device", "threads", "processes", "dataset_dir", "manifest", "git")
    config = first.get("config")
    everywhere = {"fold": "all", "checkpoint": f"fold_*/{WEIGHTS}", "output_dir": str(experiment.folder)}
    return {
        "schema": SCHEMA,
        "status": "finished",
        "command": describe_command(sys.orig_argv[1:]),
        "started": min((str(record.get("started")) for record in records), default=None),
        "ended": max((str(record.get("ended")) for record in records), default=None),
        "duration_seconds": round(sum(float(record.get("duration_seconds") or 0) for record in records), 1),
        **{name: first.get(name) for name in same},
        "config": {**config, **everywhere} if isinstance(config, Mapping) else None,
        "metrics": dict(values),
        "crossval": {
            "of": experiment.folds.total,
            "never_scored": experiment.folds.never,
            "folds": [_describe_fold(result, runs[result.fold]) for result in results],
        },
    }


def _describe_fold(result: FoldResult, run: Run) -> dict[str, Any]:
    means = {name: summary.mean for name, summary in run.summaries.items()}
    return {
        "fold": result.fold,
        "checkpoint": f"fold_{result.fold}/{WEIGHTS}",
        "sha256": result.sha256,
        "n_cases": result.n_cases,
        "epochs": result.epochs,
        "max_epochs": result.max_epochs,
        "best_epoch": result.best_epoch,
        "ended": result.ended,
        "training_seconds": result.seconds,
        "metrics": {**run.values, **means},
    }


def _replace_pictures(folder: Path, stage: Path, runs: Mapping[int, Run]) -> None:
    """Join the pictures of the folds: links, or copies where the disk has no links."""
    pictures = stage / FOLDER
    for fold, run in runs.items():
        for path in sorted((run.folder / FOLDER).glob("*.npz")):
            pictures.mkdir(exist_ok=True)
            target = pictures / f"fold_{fold}_{path.name}"
            try:
                os.link(path, target)
            except OSError:
                shutil.copyfile(path, target)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder / FOLDER)
