"""The record of a run: command, versions, data, times and outcome."""

import getpass
import hashlib
import json
import logging
import math
import platform
import re
import shlex
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from pipeline.handlers.checkpoints.atomic_save import remove_stale, write_json
from pipeline.handlers.run.batch_cases import is_handed_over
from pipeline.handlers.run.exits import on_exception
from pipeline.handlers.run.fault_context import TRACE_FILES
from pipeline.issues import InputError
from pipeline.parallel.agreement import exit_together
from pipeline.runs.tables import SCHEMA

_LOGGER = logging.getLogger(__name__)
_PACKAGES = {
    "pipeline": "monai-segmentation-suite",
    "monai": "monai",
    "torch": "torch",
    "ignite": "pytorch-ignite",
    "numpy": "numpy",
}


@dataclass(eq=False, repr=False)
class RunRecord:
    """Write ``output_dir/<filename>``: command, seed, versions, data, device, git revision, times and outcome.

    The file is written when the run starts (status ``running``) and again when it ends: ``finished``, ``interrupted``
    by a signal, or ``failed`` with the error's first line. After a kill the status stays ``running``. A resumed run
    keeps the earlier record under ``previous``; an engine that is run again goes on with its own and counts ``runs``.
    User and host names are left out; the home folder becomes ``~``. Where a client of the bundle brought the cases, the
    record names no manifest and no folder.

    Note:
        Put it after `RunLock` and `TrainingCheckpoint`, so that a run that they refuse does not replace the record of
        the earlier run.
    """

    output_dir: str | Path  #: folder of the run
    seed: int | None = None  #: of the run
    manifest: str | Path | None = None  #: the dataset's manifest, recorded with its SHA-256
    dataset_dir: str | Path | None = None  #: where the images are
    evaluator: Engine | None = None  #: engine whose best metric is recorded, in a training
    filename: str = "run.json"  #: ``run.json``, or ``evaluate.json`` on an evaluator
    source_dir: str | Path = "."  #: folder whose git revision is recorded, if it is in a work tree
    parts: Sequence[Any] = ()  #: handlers whose ``describe()`` gives further entries

    def __post_init__(self) -> None:
        self.path = Path(self.output_dir) / self.filename
        self._record: dict[str, Any] | None = None
        self._started, self._processor = datetime.now(UTC), time.process_time()

    def attach(self, engine: Engine) -> None:
        """Record a run of ``engine``, a trainer or an evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.keep_times)
        engine.add_event_handler(Events.COMPLETED, self.finish)
        on_exception(engine, self.fail)

    def start(self, engine: Engine) -> None:
        """Write the record when the run starts."""
        with exit_together():
            if idist.get_rank() != 0:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(self.path.parent, (re.escape(self.path.name),))
            for trace in self.path.parent.glob(TRACE_FILES):  # of an earlier run that failed
                trace.unlink(missing_ok=True)
            if self._record is None:
                self._record = self._describe(engine)
            runs = self._record.get("runs", 0) + 1
            self._record |= {"status": "running", "runs": runs, "max_epochs": engine.state.max_epochs}
            self._record.pop("error", None)
            self._write()

    def _describe(self, engine: Engine) -> dict[str, Any]:
        self._started, self._processor = datetime.now(UTC), time.process_time()
        ours = not is_handed_over(engine.state.dataloader)
        record = {
            "schema": SCHEMA,
            "status": "running",
            "command": describe_command(sys.orig_argv[1:]),
            "seed": self.seed,
            "started": self._started.isoformat(timespec="seconds"),
            "ended": None,
            "duration_seconds": None,
            "processor_seconds": None,
            "epochs": _count_epochs(engine),
            "max_epochs": engine.state.max_epochs,
            "versions": _list_versions(),
            "device": _describe_device(getattr(engine.state, "device", None)),
            "threads": torch.get_num_threads(),
            "processes": idist.get_world_size(),
            "dataset_dir": str(self.dataset_dir) if ours and self.dataset_dir is not None else None,
            "manifest": _describe_manifest(self.manifest) if ours else None,
            "git": _read_git(self.source_dir),
            "config": _find_config(),
        }
        previous = _read_previous(self.path)
        return {**record, "previous": previous} if previous else record

    def keep_times(self, engine: Engine) -> None:
        """Record the times up to the end of an epoch, all that is left of a run that is killed."""
        if self._record is not None:
            self._record |= self._measure(engine)
            self._try_to_write()

    def finish(self, engine: Engine) -> None:
        """Record that the run is finished."""
        self._close(engine, "finished")

    def fail(self, engine: Engine, error: BaseException) -> None:
        """Record that the run was interrupted or failed."""
        stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "code", None) in (130, 143)
        self._close(engine, "interrupted" if stopped else "failed", error)

    def _close(self, engine: Engine, status: str, error: BaseException | None = None) -> None:
        if self._record is None:
            return
        self._record |= {
            "status": status,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            **self._measure(engine),
            "metrics": list_metrics(engine),
        }
        if checkpoint := getattr(engine.state, "checkpoint", None):  # what `NetworkCheckpointLoader` has loaded
            self._record["checkpoint"] = checkpoint
        if self.evaluator is not None:
            self._record["best"] = _describe_best(self.evaluator)
        if error is not None:
            self._record["error"] = next(iter(str(error).splitlines()), "") or type(error).__name__
        self._try_to_write()

    def _measure(self, engine: Engine) -> dict[str, Any]:
        return {
            "duration_seconds": round((datetime.now(UTC) - self._started).total_seconds(), 1),
            "processor_seconds": round(time.process_time() - self._processor, 1),
            "epochs": _count_epochs(engine),
            **{name: value for part in self.parts for name, value in part.describe().items()},
        }

    def _try_to_write(self) -> None:
        try:
            self._write()
        except InputError as problem:
            # A warning only: the run matters more, and the error that ended it.
            _LOGGER.warning("the record of this run is incomplete: %s", problem)

    def _write(self) -> None:
        write_json(anonymize(self._record), self.path)


def anonymize(item: Any) -> Any:
    """Replace user and host names in all texts, because results are shared."""
    if isinstance(item, dict):
        return {key: anonymize(value) for key, value in item.items()}
    if isinstance(item, list):
        return [anonymize(value) for value in item]
    if not isinstance(item, str):
        return item
    text = item.replace(str(Path.home()), "~") if Path.home() != Path("/") else item
    text = re.sub(rf"(?<=/){re.escape(_read_user())}(?=/|$)", "USER", text)
    return re.sub(rf"(?<![\w.-]){re.escape(socket.gethostname())}(?![\w-])", "HOST", text)


def _find_config() -> Any:
    """Return the config that runs, overrides included, as MONAI's workflow in one of the frames holds it, or None."""
    for frame, _ in traceback.walk_stack(None):
        owner: Any = frame.f_locals.get("self")
        if any(base.__name__ == "ConfigWorkflow" for base in type(owner).__mro__):
            config = {key: value for key, value in owner.parser.get().items() if key != "_meta_"}
            return json.loads(json.dumps(config, default=str))
    return None


def describe_command(words: list[str]) -> str:
    """Return the command line; that of NVFlare's processes without its options, among which is a token.

    Example:
        >>> describe_command(["-u", "-m", "nvflare.private.fed.app.client.worker_process", "-t", "secret"])
        'python -u -m nvflare.private.fed.app.client.worker_process'
    """
    module = words.index("-m") + 1 if "-m" in words else len(words)
    if words[module : module + 1] and words[module].startswith("nvflare."):
        words = words[: module + 1]
    return shlex.join(["python", *words])


def _read_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have no name
        return "\0"


def _list_versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name, distribution in _PACKAGES.items():
        try:
            versions[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _describe_device(device: torch.device | None) -> str | None:
    if device is None:
        return None
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _describe_manifest(file: str | Path | None) -> dict[str, str] | None:
    if file is None:
        return None
    return {"path": str(Path(file)), "sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest()}


def _read_git(folder: str | Path) -> dict[str, Any] | None:
    def run(*arguments: str) -> str:
        command = ["git", "-C", str(Path(folder)), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        revision = run("rev-parse", "HEAD")
        return {"revision": revision, "dirty": bool(run("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):  # no git, or no work tree
        return None


def _count_epochs(engine: Engine) -> int:
    """Count complete epochs; during an epoch ignite's counter includes it."""
    state = engine.state
    return state.iteration // state.epoch_length if state.epoch_length else state.epoch


def list_metrics(engine: Engine) -> dict[str, float | None]:
    """Return an engine's metrics that are one number, None for one that is not finite."""
    numbers = {}
    for name, value in (engine.state.metrics or {}).items():
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, (int, float)):
            numbers[name] = float(value) if math.isfinite(value) else None  # JSON has no NaN
    return numbers


def _describe_best(evaluator: Engine) -> dict[str, Any] | None:
    state: Any = evaluator.state
    metric = getattr(state, "best_metric", None)
    if metric is None or getattr(state, "best_metric_epoch", -1) < 0 or not math.isfinite(metric):
        return None
    return {"metric": getattr(state, "key_metric_name", None), "value": float(metric), "epoch": state.best_metric_epoch}


def _read_previous(path: Path) -> list[dict[str, Any]]:
    try:
        last = json.loads(path.read_text(encoding="utf-8"))
        last.pop("config", None)  # that of the run that goes on says most, and the list would grow
        return [*last.pop("previous", []), last]
    except (OSError, ValueError, AttributeError, TypeError):  # no record yet, or another kind of file
        return []
