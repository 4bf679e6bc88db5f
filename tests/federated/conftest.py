"""Sites on phantoms, with networks that train in a second."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.datasets.phantoms import write_isic_phantom
from pipeline.federated.sites import Site

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "image_size": [32, 32],
    "network_def#features": [4, 4, 4, 4, 4, 4],
    "batch_size": 3,
    "amp": False,
    "num_workers": 0,
}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a bundle, with a config that makes it tiny."""
    target = tmp_path_factory.mktemp("bundles") / "isic_unet"
    shutil.copytree(ROOT / "bundles/isic_unet", target, ignore=shutil.ignore_patterns("models", "output"))
    (target / "configs/tiny.json").write_text(json.dumps(TINY))
    return target


@pytest.fixture
def make_site(bundle: Path, tmp_path: Path) -> Callable[..., Site]:
    """Make a site with its own images."""

    def make(name: str = "north", *, images: int = 8, seed: int = 0) -> Site:
        folder = tmp_path / name
        manifest = write_isic_phantom(folder / "data", images=images, size=40, seed=seed)
        (dataset_dir,) = (path for path in (folder / "data").iterdir() if path.is_dir())
        return Site(name, bundle, dataset_dir, manifest, folder / "output", ("train.json", "tiny.json"))

    return make
