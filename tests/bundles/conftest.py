"""The bundles, and the small dataset that each names in its metadata."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets import load_datalist
from pipeline.datasets import phantoms as writers
from pipeline.datasets.layouts import LAYOUTS

ROOT = Path(__file__).resolve().parents[2]
# One of each family, for what the configs of a family have in common.
FAMILIES = {"braintumor_unet", "hippocampus_segresnet", "isic_unet", "lgg_unet", "u373_unet"}
# Those of the suite: a bundle that a user made beside them names no phantom.
BUNDLES = sorted(
    path.parent.parent
    for path in ROOT.glob("bundles/*/configs/metadata.json")
    if "phantom" in json.loads(path.read_text(encoding="utf-8"))
)
NAMES = [path.name for path in BUNDLES]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that takes ``bundle`` on every bundle; those that are not ``QUICK`` are slow.

    The module names the quick ones; the mark ``one_per_family`` leaves one of each family.
    """
    if "bundle" in metafunc.fixturenames:
        quick = set(getattr(metafunc.module, "QUICK", NAMES))
        quick &= FAMILIES if metafunc.definition.get_closest_marker("one_per_family") else quick
        marks = {name: [] if name in quick else [pytest.mark.slow] for name in NAMES}
        bundles = [pytest.param(path, id=path.name, marks=marks[path.name]) for path in BUNDLES]
        metafunc.parametrize("bundle", bundles, scope="module")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_phantom(bundle: Path, folder: Path, **options: int) -> dict[str, str]:
    """Write the phantom that a bundle's metadata names; returns the knobs ``dataset_dir`` and ``manifest``."""
    phantom = read_json(bundle / "configs/metadata.json")["phantom"]
    manifest: Path = getattr(writers, LAYOUTS[phantom["layout"]].phantom)(folder, **{**phantom["options"], **options})
    (root,) = (path for path in folder.iterdir() if path.is_dir())
    return {"dataset_dir": str(root), "manifest": str(manifest.with_name(phantom.get("manifest", manifest.name)))}


@pytest.fixture(scope="session")
def write_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, str]]:
    """Write a bundle's phantom, once for all bundles that share it. Shared: copy before changing it."""
    written: dict[str, dict[str, str]] = {}

    def write(bundle: Path) -> dict[str, str]:
        key = json.dumps(read_json(bundle / "configs/metadata.json")["phantom"], sort_keys=True)
        if key not in written:
            written[key] = write_phantom(bundle, tmp_path_factory.mktemp("phantom"))
        return written[key]

    return write


@pytest.fixture
def data(bundle: Path, write_data: Callable[[Path], dict[str, str]]) -> dict[str, str]:
    """Knobs that point to the bundle's phantom."""
    return write_data(bundle)


@pytest.fixture(scope="module")
def test_images(
    bundle: Path, write_data: Callable[[Path], dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Images of the test cases without their labels, as new scans would come."""
    folder = tmp_path_factory.mktemp("images")
    for case in load_datalist(**write_data(bundle), split="test"):
        for path in map(Path, case["image"]):
            target = folder / path.parent.name if len(case["image"]) > 1 else folder
            target.mkdir(exist_ok=True)
            shutil.copy(path, target)
    return folder
