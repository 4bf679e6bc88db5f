"""Every bundle with the real clients, in the environment of ``make test-clients``; not part of ``make test``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bundles.conftest import NAMES, write_data  # noqa: F401  # a fixture
from tests.clients.rows import CLIENTS, find_limit, read_pins, render_outcomes

# The clients need packages that exclude each other's versions, so they have an environment of their own.
INSTALLED = importlib.util.find_spec("monailabel") is not None
# Federated training needs NVFlare alone, tracking a folder of packages, and they say so themselves.
ALONE = {"test_federated.py", "test_tracking.py"}
collect_ignore = [] if INSTALLED else sorted({p.name for p in Path(__file__).parent.glob("test_*.py")} - ALONE)
_STARTED = time.monotonic()


def pytest_report_header() -> str:
    return "" if INSTALLED else "tests/clients: the clients are not installed here; run make test-clients"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that take ``name`` on every bundle, or on the module's ``BUNDLES``; each bundle in one process."""
    own = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "name" in metafunc.fixturenames and "name" not in own:
        client = metafunc.module.__name__.rpartition(".")[2]
        params = []
        for name in getattr(metafunc.module, "BUNDLES", NAMES):
            marks: list[Any] = [pytest.mark.xdist_group(name)]
            limit = find_limit(client, name, metafunc.definition.originalname)
            if limit is not None:
                marks.append(pytest.mark.xfail(reason=limit.reason, raises=limit.error, strict=True))
            params.append(pytest.param(name, id=name, marks=marks))
        metafunc.parametrize("name", params, scope="module")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Write client and bundle into the report of each test, for the table at the end."""
    for item in items:
        client = item.path.stem
        params = item.callspec.params if hasattr(item, "callspec") else {}
        found = params.get("name") or params.get("bundle")
        if client in CLIENTS and found:
            item.user_properties += [("client", client), ("bundle", Path(found).name)]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print what each client did with each bundle, the versions and the time."""
    if not INSTALLED or hasattr(config, "workerinput"):
        return
    outcomes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for outcome, reports in terminalreporter.stats.items():
        for report in reports:
            found = dict(getattr(report, "user_properties", ()))
            if "client" in found:
                outcomes[found["client"], found["bundle"]].add(outcome)
    terminalreporter.section("clients")
    for line in render_outcomes(outcomes):
        terminalreporter.write_line(line)
    pins = read_pins()
    names = sorted({*pins, "monai", "torch", "numpy", "pytorch-ignite"})
    versions = ", ".join(f"{name} {pins.get(name) or importlib.metadata.version(name)}" for name in names)
    terminalreporter.write_line(f"{versions}; {time.monotonic() - _STARTED:.0f} s")


@pytest.fixture(autouse=True)
def foreign_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that is neither the bundle's nor the repository's, as clients do."""
    folder = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def copies(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder for copies of a bundle."""
    folder = tmp_path_factory.mktemp(name)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def whole(name: str, copies: Path) -> Path:
    """The bundle as it is."""
    from tests.clients.copies import copy_bundle

    return copy_bundle(name, copies / "whole")


@pytest.fixture(scope="module")
def small(name: str, copies: Path) -> Path:
    """The bundle with the small network of its ``phantom.json``."""
    from tests.clients.copies import copy_small

    return copy_small(name, copies / "small")


@pytest.fixture(scope="module")
def data(name: str, write_data: Callable[[Path], dict[str, str]]) -> dict[str, str]:  # noqa: F811
    """Knobs that point to the bundle's phantom."""
    from tests.bundles.conftest import ROOT

    return write_data(ROOT / "bundles" / name)


@pytest.fixture(scope="module")
def image(name: str, data: dict[str, str]) -> Path:
    """An image of the phantom: one file, of a stack a slice with foreground."""
    from tests.bundles.conftest import ROOT
    from tests.clients.images import list_items

    items = list_items(ROOT / "bundles" / name, data, "test")
    return next(item.image for item in items if item.label.max() > 0)


@pytest.fixture(scope="module")
def predicted(name: str, image: Path, copies: Path) -> Any:
    """A copy of the bundle, and the label map that its ``inference.json`` writes of the image."""
    from tests.clients.predictions import predict

    return predict(name, image, copies / "predicted")
