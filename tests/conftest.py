"""Fixtures and rules of all tests: small data made once per run, real data only if it is next to the repository."""

import gc
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.parallel.pair import Pair

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

# Otherwise MONAI only warns of a reference that does not resolve; children inherit this.
os.environ["MONAI_ALLOW_MISSING_REFERENCE"] = "0"
os.environ.setdefault("MPLBACKEND", "Agg")
# Caches of checked datasets go to a folder of this run; matplotlib keeps its list of fonts, which is slow to build.
_CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
os.environ.setdefault("MPLCONFIGDIR", os.path.join(_CACHE, "matplotlib"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Distribute whole files (``--dist loadfile``) as `tests.sharing` says."""
    from tests.sharing import UnitScheduling

    return UnitScheduling(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Spare the garbage collector all that is imported: its searches would take a tenth of the tests' time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with the reason, tests that this machine cannot run, and begin with what takes longest."""
    if hasattr(config, "workerinput"):
        from tests.sharing import sort_longest_first

        sort_longest_first(items)
    if not SHARED_DATA.is_dir():
        _skip(items, "realdata", f"no real data at {SHARED_DATA}")
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_tests and not _has_gpu():
        _skip(gpu_tests, "gpu", "no CUDA device")


def _skip(items: list[pytest.Item], marker: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(marker):
            item.add_marker(pytest.mark.skip(reason=reason))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session", autouse=True)
def heed_signals() -> None:
    """Handle SIGINT and SIGTERM even where the tests were started in the background with these signals ignored.

    Children inherit an ignored signal; tests that interrupt a command would then wait in vain. SIGHUP stays ignored,
    because that is what ``nohup`` is for.
    """
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def search_monai_once() -> None:
    """Let MONAI search its modules once; see `tests.component_table`. Tests without MONAI need not import it."""
    if "monai.bundle" in sys.modules:
        import tests.component_table  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of caches, for children too."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def process_state() -> Iterator[None]:
    """Undo what `bundle run` does to the process that it is typed for: where modules come from, and what is logged."""
    path, written = list(sys.path), sys.dont_write_bytecode
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    names = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
    yield
    sys.path[:] = path
    sys.dont_write_bytecode = written
    root.setLevel(level)
    for handler in list(root.handlers):
        # Those of pytest come and go by themselves.
        if type(handler) is logging.StreamHandler and handler not in handlers:
            root.removeHandler(handler)
    for name, value in names.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data; skips where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def lgg_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small phantom: ``kaggle_3m/`` of 6 patients at 64x64 and ``manifest.json``. Shared: copy before changing it."""
    from pipeline.datasets.phantoms import write_lgg_phantom

    return write_lgg_phantom(tmp_path_factory.mktemp("lgg_phantom"), patients=6, size=64).parent


@pytest.fixture(scope="session")
def pair(cache_home: Path, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Pair]":
    """Two processes for trainings on several, started once."""
    from tests.parallel.pair import Pair

    if str(REPOSITORY) not in sys.path:  # the children must find the tests' modules, also after a plain `pytest`
        sys.path.insert(0, str(REPOSITORY))
    processes = Pair(tmp_path_factory.mktemp("pair") / "log.txt")
    yield processes
    processes.end()


@pytest.fixture(scope="session")
def real_lgg(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``kaggle_3m`` with the first real patients. Shared: copy before changing it."""
    target = tmp_path_factory.mktemp("lgg")
    command = [sys.executable, str(shared_data / "lgg" / "restore.py"), str(target), "--patients", "4"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target / "kaggle_3m"
