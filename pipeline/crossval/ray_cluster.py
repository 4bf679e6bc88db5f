"""Hand folds to Ray: to the cores of this machine, or to a cluster whose machines see the same folders."""

import contextlib
import importlib
import importlib.util
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pipeline
from pipeline.crossval.crossval_options import CrossvalOptions
from pipeline.crossval.fold_job import LOG, FoldJob, FoldResult, run_fold
from pipeline.handlers.run.run_lock import LOCK_NAME, read_holder
from pipeline.issues import InputError

# A worker that is lost is replaced, and the fold resumes; one that kills its worker again and again fails.
_RETRIES = 5
# A training writes a line a minute. After so long a silence the machine that held a folder is gone, in seconds.
_SILENCE = 180.0
_PATIENCE = _MINUTE = 60.0
_EPOCH = re.compile(r"epoch \d+/\d+ .*")
_KNOCK = 10.0
# Bytes for objects that tasks exchange; ours are a few texts.
_STORE = 100_000_000


def run_on_cluster(
    jobs: Sequence[FoldJob], options: CrossvalOptions, tell: Callable[[str], None]
) -> Iterator[FoldResult]:
    """Run jobs as Ray tasks, and yield each result as soon as it is there.

    Args:
        jobs: the folds.
        options: what was asked for.
        tell: gets a line a minute about each training.

    Raises:
        InputError: Ray is missing or cannot be reached, or a machine lacks a folder or what a fold needs.
    """
    with _connect(str(options.cluster)) as ray:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        _check_nodes(ray, nodes, jobs[0])
        cpus, gpus = choose_resources([node["Resources"] for node in nodes], options, len(jobs))
        task = ray.remote(run_remotely).options(num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES)
        waiting = {task.remote(job): job for job in jobs}
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), num_returns=1, timeout=_MINUTE)
                for line in [] if done else list_epochs(waiting.values()):
                    tell(line)
                for reference in done:
                    yield _fetch(ray, reference, waiting.pop(reference))
        except BaseException:
            _stop(ray, list(waiting))
            raise


def run_remotely(job: FoldJob) -> FoldResult:
    """Run a fold in a worker of Ray, which may have taken it over from one that was lost."""
    await_folder(Path(job.cwd) / job.folder)
    return run_fold(job)


def list_epochs(jobs: Iterable[FoldJob]) -> list[str]:
    """Return the last epoch of each training that has begun, as its log says it."""
    lines = []
    for job in jobs:
        log = Path(job.cwd) / job.folder / LOG
        found = _EPOCH.findall(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else []
        lines += [f"  {job.title}: {found[-1]}"] if found else []
    return lines


def await_folder(folder: Path, silence: float = _SILENCE) -> None:
    """Wait until a machine that is lost can no longer be writing into a folder, and take its lock away.

    A lock of this machine is left to the training, which knows whether its process lives.

    Args:
        folder: of a fold.
        silence: seconds without a new line in its log.
    """
    lock = folder / LOCK_NAME
    holder = read_holder(lock)
    if holder is None or holder["host"] == socket.gethostname():
        return
    while time.time() - _find_last_change(folder) < silence:
        time.sleep(min(5.0, silence / 4))
    lock.unlink(missing_ok=True)


def _find_last_change(folder: Path) -> float:
    log = folder / LOG
    return log.stat().st_mtime if log.exists() else 0.0


def choose_resources(nodes: Sequence[dict[str, float]], options: CrossvalOptions, number: int) -> tuple[float, float]:
    """Return the CPUs and GPUs of a fold: as asked for, or one GPU where there are any, and an equal share of CPUs.

    Args:
        nodes: CPU and GPU of each machine.
        options: what was asked for.
        number: of folds.

    Raises:
        InputError: no machine has so many.

    Example:
        >>> choose_resources([{"CPU": 8.0}], CrossvalOptions(Path()), 5)
        (1.0, 0.0)
        >>> choose_resources([{"CPU": 32.0, "GPU": 4.0}], CrossvalOptions(Path()), 5)
        (8.0, 1.0)
    """
    owners = [node for node in nodes if node.get("GPU")]
    gpus = options.gpus_per_fold if options.gpus_per_fold is not None else float(bool(owners))
    cpus = options.cpus_per_fold
    if cpus is None and gpus and owners:
        cpus = float(max(1, min(int(node["CPU"] // max(1.0, node["GPU"] / gpus)) for node in owners)))
    elif cpus is None:
        each = -(-number // len(nodes))
        cpus = float(max(1, int(min(node["CPU"] for node in nodes) // each)))
    if not any(node["CPU"] >= cpus and node.get("GPU", 0.0) >= gpus for node in nodes):
        most = ", ".join(f"{node['CPU']:g} CPUs and {node.get('GPU', 0.0):g} GPUs" for node in nodes)
        raise InputError(
            f"no machine of the cluster has {cpus:g} CPUs and {gpus:g} GPUs for a fold (they have {most}); "
            "type smaller --cpus_per_fold and --gpus_per_fold"
        )
    return cpus, gpus


@contextlib.contextmanager
def _connect(cluster: str) -> Iterator[Any]:
    """Yield Ray, connected to a cluster or started on this machine, where it leaves nothing behind."""
    if importlib.util.find_spec("ray") is None:
        raise InputError("--cluster needs Ray: pip install 'monai-segmentation-suite[cluster]'")
    # Nothing is reported to Ray's makers, and no page is served.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_worker_niceness", "0")  # as fast as without Ray, unless the user wants otherwise
    ray = importlib.import_module("ray")
    home = "/tmp" if os.path.isdir("/tmp") else None  # names of sockets must be short
    with tempfile.TemporaryDirectory(prefix="ray_", dir=home, ignore_cleanup_errors=True) as place:
        here = {"address": "local", "include_dashboard": False, "object_store_memory": _STORE, "_temp_dir": place}
        options = here if cluster == "local" else {"address": cluster}
        before = signal.getsignal(signal.SIGTERM)
        try:
            _knock(cluster)
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            hint = "start one with ray start --head, or type --cluster local for this machine alone"
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise InputError(f"--cluster {cluster}: Ray cannot be reached: {reason}; {hint}") from None
        try:
            signal.signal(signal.SIGTERM, before)  # Ray takes it for itself
            yield ray
        finally:
            ray.shutdown()


def _knock(cluster: str) -> None:
    """Require that something listens at an address; Ray itself would wait for minutes.

    Raises:
        OSError: nothing does.
    """
    host, _, port = cluster.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _KNOCK).close()


def _check_nodes(ray: Any, nodes: Sequence[dict[str, Any]], job: FoldJob) -> None:
    """Require that every machine sees the folder of the results, and has this package.

    Raises:
        InputError: one does not.
    """
    if not nodes:
        raise InputError("the cluster has no machine with CPUs; add one with ray start --address ...")
    folder = Path(job.cwd) / job.folder
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{os.getpid()}"
    probe.touch()
    place = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    try:
        for node in nodes:
            strategy = place(node_id=node["NodeID"], soft=False)
            task = ray.remote(look_around).options(num_cpus=0, scheduling_strategy=strategy)
            problem = ray.get(task.remote(job.cwd, str(probe), pipeline.__version__))
            if problem:
                raise InputError(f"machine {node['NodeManagerAddress']} of the cluster {problem}")
    except ray.exceptions.RayError as error:
        raise InputError(
            f"a machine of the cluster cannot run a fold: {str(error).strip().splitlines()[-1]}; "
            "install the same package on all of them"
        ) from None
    finally:
        probe.unlink(missing_ok=True)


def look_around(cwd: str, probe: str, version: str) -> str:
    """Return what a machine lacks; "" if it can run a fold."""
    if not Path(cwd).is_dir():
        return f"has no folder {cwd}; start the command in a folder that all machines share"
    if not Path(probe).is_file():
        return f"does not see {Path(probe).parent}; name a shared folder with --output_dir"
    if pipeline.__version__ != version:
        return f"has version {pipeline.__version__} of this package, and here is {version}; install the same one"
    return ""


def _fetch(ray: Any, done: Any, job: FoldJob) -> FoldResult:
    try:
        result: FoldResult = ray.get(done)
        return result
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines()
        reason = lines[-1].strip() if lines else type(error).__name__
        return FoldResult(job.fold, job.setting, error=f"its worker was lost {_RETRIES + 1} times: {reason}")


def _stop(ray: Any, waiting: list[Any]) -> None:
    """Let the trainings end in order."""
    for reference in waiting:
        ray.cancel(reference)
    if waiting:
        ray.wait(waiting, num_returns=len(waiting), timeout=_PATIENCE)
