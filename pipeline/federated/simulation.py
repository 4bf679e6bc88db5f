"""Run a federation on this machine by NVFlare's simulator, and tell the truth about how it ended.

The simulator ends with exit code 0 when every client has failed, and waits for ever for one that was killed.
"""

import contextlib
import importlib.util
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.bundle.config_files import read_json
from pipeline.federated.job import EXECUTOR, FEDERATION, JOB, PERSISTOR, SERVER
from pipeline.federated.result import Result, read_result
from pipeline.federated.site_training import check_site
from pipeline.federated.sites import ERROR, SITES, Site, read_sites, write_sites
from pipeline.issues import InputError, join_lines

_LOGGER = logging.getLogger(__name__)
#: Folder of the simulation in that of the federation
SIMULATION = "simulation"
_LOG = "log.txt"
_RUN = "simulate_job"  # NVFlare's name for a job that is simulated
_START = (
    "import sys; from nvflare.private.fed.app.simulator.simulator_runner import SimulatorRunner as R; "
    "sys.exit(R(sys.argv[1], sys.argv[2], clients=sys.argv[3], threads=int(sys.argv[4])).run())"
)
_LOST = re.compile(r"(?:Subprocess died for|Communication error with) client ([\w-]+)")
_PROGRESS = re.compile(r"Round (\d+) started|(Aggregated \d+/\d+ results)")


def simulate(folder: Path) -> Result:
    """Run a federation on this machine, each site in a process of its own.

    Args:
        folder: of the federation, as `pipeline federated new` writes it, with the sites' paths filled in.

    Returns:
        The result; every site has scored its weights.

    Raises:
        InputError: NVFlare is not installed, a site's files are not as expected, or a site failed: its own line.
    """
    require_nvflare()
    sites = check_sites(folder)
    workspace = folder / SIMULATION
    if workspace.exists():
        raise InputError(f"{workspace} exists; remove it to run the federation again")
    _write_local(workspace / "local", sites)
    lost = _run(folder / JOB, workspace, list(sites))
    problems = list(_find_problems(workspace, sites, lost))
    if problems:
        raise InputError(f"{'; '.join(problems)}; the logs are in {workspace}")
    result = read_result(workspace)
    if result.missing:
        raise InputError(f"no scores from {', '.join(result.missing)}: the federation is not complete; see {workspace}")
    return result


def require_nvflare() -> None:
    """Refuse to go on without NVFlare."""
    if importlib.util.find_spec("nvflare") is None:
        raise InputError("this needs NVFlare: pip install 'monai-segmentation-suite[federated]'")


def check_sites(folder: Path) -> dict[str, Site]:
    """Return the sites of a federation, each compared with what the job expects.

    Raises:
        InputError: `SITES` and the job name other sites, or a site's files are not as expected.
    """
    path = folder / JOB / SERVER / "config" / FEDERATION
    if not path.is_file():
        raise InputError(f"{folder} holds no federation: there is no {path}; make one with pipeline federated new")
    federation, sites = read_json(path), read_sites(folder / SITES)
    for name in federation["sites"]:
        if name not in sites:
            raise InputError(f"site {name!r} of the job is not in {folder / SITES}; add an entry for it")
    for name, site in sites.items():
        if name not in federation["sites"]:
            raise InputError(
                f"site {name!r} in {folder / SITES} is not a site of the job, which has "
                f"{', '.join(federation['sites'])}; remove it, or make a new federation with it"
            )
        check_site(site, federation["labels"])
    return sites


def _write_local(folder: Path, sites: Mapping[str, Site]) -> None:
    from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST

    folder.mkdir(parents=True)
    write_sites(list(sites.values()), folder / SITES)
    # NVFlare copies the folder to each site and to the server.
    allowed = {"format_version": 2, "class_allow_list": [*DEFAULT_CLASS_ALLOW_LIST, EXECUTOR, PERSISTOR]}
    (folder / "resources.json.default").write_text(json.dumps(allowed, indent=4), encoding="utf-8")


def _run(job: Path, workspace: Path, names: Sequence[str]) -> str | None:
    """Run the simulator; return the name of a site whose process was lost."""
    command = [sys.executable, "-c", _START, str(job.absolute()), str(workspace.absolute())]
    with (workspace.parent / f"{SIMULATION}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, ",".join(names), str(len(names))],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            for line in process.stdout or ():
                log.write(line)
                log.flush()
                if lost := _LOST.search(line):
                    return lost[1]
                if progress := _PROGRESS.search(line):
                    _LOGGER.info("%s", f"round {int(progress[1]) + 1}" if progress[1] else progress[2].lower())
        finally:
            _stop(process)
    return None


def _stop(process: subprocess.Popen[str]) -> None:
    """End the simulator and the processes of its sites, which are sessions of their own."""
    import psutil

    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    for child in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()


def _find_problems(workspace: Path, sites: Mapping[str, Site], lost: str | None) -> Iterator[str]:
    for name in sites:
        file = workspace / name / _RUN / ERROR
        if file.is_file():
            yield f"site {name}: {join_lines(file.read_text(encoding='utf-8'))}"
        elif name == lost:
            yield f"the process of site {name} was lost (killed, or out of memory), and the federation needs every site"
