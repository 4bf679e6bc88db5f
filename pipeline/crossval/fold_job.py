"""One fold: a training and an evaluation, each as a user would type it; what is done already is not done again."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.crossval.child_process import run_child
from pipeline.datasets.digests import compute_sha256
from pipeline.issues import InputError, join_lines
from pipeline.runs.reliability import is_of_probabilities
from pipeline.runs.run_folder import read_run
from pipeline.runs.tables import METRICS, read_metrics

#: Files in the folder of a fold: what became of it, and all that its processes said
RESULT, LOG = "fold.json", "log.txt"
#: Folder of the evaluation in that of a fold
EVALUATION = "evaluate"
#: The best weights of a fold
WEIGHTS = "model.pt"
_BUDGET = "time_budget.json"
_TIME = "training_time.json"


@dataclass(frozen=True)
class FoldJob:
    """What a process needs to know to train and evaluate one fold, here or on another machine."""

    fold: int  #: number of the fold in the manifest
    setting: str  #: name of the setting in a sweep; "" without one
    folder: str  #: of the fold
    train: tuple[str, ...]  #: configs of the training
    evaluate: tuple[str, ...]  #: configs of the evaluation
    train_words: tuple[str, ...]  #: overrides of the training
    evaluate_words: tuple[str, ...]  #: overrides of the evaluation
    cwd: str  #: folder that all paths start from
    seconds: float | None = None  #: for the training; None for no limit

    @property
    def title(self) -> str:
        """What the fold is called in messages."""
        return f"{self.setting} fold {self.fold}".strip()


@dataclass(frozen=True)
class FoldResult:
    """What became of a fold."""

    fold: int  #: its number
    setting: str  #: name of the setting in a sweep
    error: str = ""  #: one line why it failed; "" if it did not
    metric: str = ""  #: the key metric
    score: float | None = None  #: its mean over the cases of the fold
    n_cases: int = 0  #: cases with a score
    seconds: float = 0.0  #: of all trainings of the fold
    epochs: int = 0  #: that were trained
    max_epochs: int = 0  #: that were planned
    best_epoch: int | None = None  #: the one whose weights were scored
    ended: str = ""  #: why the training ended: ``epochs``, ``early stop`` or ``time``
    sha256: str = ""  #: of the weights


def find_result(folder: Path) -> FoldResult | None:
    """Return the result of a fold that is finished, None of another one.

    Raises:
        InputError: the file is damaged, or the weights are gone.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder / WEIGHTS} is missing; put it back, or delete {folder} to train the fold again")
    try:
        return FoldResult(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise InputError(f"{path}: this is not the result of a fold; delete it to evaluate the fold again") from None


def run_fold(job: FoldJob, tell: Callable[[str], None] = lambda line: None) -> FoldResult:
    """Train and evaluate a fold, from where an earlier call of this or another process stopped.

    Args:
        job: the fold.
        tell: gets each line of its processes.

    Returns:
        The result, with an error if the fold failed. Only Ctrl-C and SIGTERM are raised.
    """
    folder = Path(job.cwd) / job.folder
    try:
        known = find_result(folder)
        if known is not None:
            return known
        if not _is_trained(folder):
            _train(job, folder, tell)
        place = os.path.join(job.folder, EVALUATION)
        checkpoint = f"--checkpoint={os.path.join(job.folder, WEIGHTS)}"
        _run(job, job.evaluate, ["--split=val", checkpoint, f"--output_dir={place}", *job.evaluate_words], tell)
        result = _describe(job, folder)
        with write_atomically(folder / RESULT) as stream:
            json.dump(asdict(result), stream, indent=4)
        return result
    except (InputError, OSError) as error:
        return FoldResult(job.fold, job.setting, error=join_lines(str(error)))


def _is_trained(folder: Path) -> bool:
    return read_record(folder).get("status") == "finished" and (folder / WEIGHTS).is_file()


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a training; empty if there is none, or none that can be read."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _train(job: FoldJob, folder: Path, tell: Callable[[str], None]) -> None:
    configs = list(job.train)
    if job.seconds is not None:
        with write_atomically(folder / _BUDGET) as stream:
            stream.write(json.dumps(_limit_time(configs, job.seconds, Path(job.cwd))) + "\n")
        configs.append(os.path.join(job.folder, _BUDGET))
    resume = ["--resume=true"] if any(folder.glob("last_epoch=*.pt")) else []
    _run(job, configs, [f"--output_dir={job.folder}", *resume, *job.train_words], tell)
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            f"the training wrote no {WEIGHTS}, because no validation had a finite score; see {job.folder}/{LOG}"
        )


def _limit_time(configs: Sequence[str], seconds: float, cwd: Path) -> dict[str, Any]:
    """Return the override that gives a training its time, also one whose configs have no setting for it."""
    remark = {"_desc_": "Override of train.json: the share of --hours"}
    if any("budget_minutes" in _read_json(cwd / config) for config in configs):
        return {**remark, "budget_minutes": round(seconds / 60, 3)}
    handler = {"_target_": "pipeline.handlers.TimeBudget", "output_dir": "@output_dir", "seconds": round(seconds, 1)}
    return {**remark, "+train#handlers": [handler]}


def _run(job: FoldJob, configs: Sequence[str], words: Sequence[str], tell: Callable[[str], None]) -> None:
    """Run configs in a process of their own.

    Raises:
        InputError: it failed; its last line.
    """
    folder = Path(job.cwd) / job.folder
    last = ""

    def listen(line: str) -> None:
        nonlocal last
        last = line.strip() or last
        tell(line)

    began = time.monotonic()
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", repr(list(configs)), f"--fold={job.fold}"]
    code = run_child([*command, *words], folder / LOG, job.cwd, listen)
    if code:
        reason = f"its process was killed by signal {-code}" if code < 0 else last.removeprefix("error: ")
        after = f" after {time.monotonic() - began:.0f} s"
        raise InputError(f"{reason or f'its process ended with code {code}{after}'}; see {job.folder}/{LOG}")


def _describe(job: FoldJob, folder: Path) -> FoldResult:
    run, record = read_run(folder / EVALUATION), read_record(folder)
    # The first one is the key metric: a mean over cases, or one value for all of them.
    metric = next(
        (
            name
            for name in read_metrics(folder / EVALUATION / METRICS)
            if (name in run.summaries or name in run.values) and not is_of_probabilities(name)
        ),
        "",
    )
    summary, table = run.summaries.get(metric), run.tables.get(metric)
    epochs, planned = int(record.get("epochs") or 0), int(record.get("max_epochs") or 0)
    spent = _read_json(folder / _TIME)
    best = record.get("best") or {}
    return FoldResult(
        fold=job.fold,
        setting=job.setting,
        metric=metric,
        score=run.values.get(metric) if summary is None else summary.mean,
        n_cases=summary.n if summary is not None else len(table.scores) if table is not None else 0,
        seconds=float(spent.get("seconds") or _sum_seconds(record)),
        epochs=epochs,
        max_epochs=planned,
        best_epoch=best.get("epoch"),
        ended="time" if spent.get("is_over") else "epochs" if epochs >= planned else "early stop",
        sha256=compute_sha256(folder / WEIGHTS),
    )


def _sum_seconds(record: dict[str, Any]) -> float:
    """Return the seconds of a training and of those that it resumed; that of a killed one is not known."""
    return sum(float(one.get("duration_seconds") or 0) for one in (record, *record.get("previous", ())))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
