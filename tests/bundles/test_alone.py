"""Every bundle, copied alone to an empty folder, works from there with what its metadata list, and its own defaults."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets.digests import compute_sha256
from tests.bundles.conftest import FAMILIES, ROOT, read_json, write_phantom

# `make test-clients` runs all of them.
QUICK = {"lgg_unet"}


@dataclass(frozen=True)
class Lab:
    """A folder that holds a copy of one bundle and a phantom at its defaults' places, and nothing else."""

    folder: Path
    bundle: str

    @property
    def packages(self) -> dict[str, str]:
        found: dict[str, str] = read_json(self.folder / self.bundle / "configs/metadata.json")[
            "required_packages_version"
        ]
        return found

    def list_commands(self) -> list[list[str]]:
        weights = ["--checkpoint", f"output/{self.bundle}/model.pt"]
        return [
            self._run("train", "phantom"),
            [*self._run("train", "evaluate", "refine", "phantom"), *weights, "--skip_crf", "false"],
            [*self._run("inference", "phantom"), *weights, "--input", "new", "--overlay", "true"],
        ]

    def _run(self, *names: str) -> list[str]:
        return ["run", "--config_file", str([f"{self.bundle}/configs/{name}.json" for name in names])]

    def hash_bundle(self) -> dict[str, str]:
        files = [path for path in (self.folder / self.bundle).rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): compute_sha256(path) for path in files}


def open_lab(bundle: Path, folder: Path) -> Lab:
    copy = shutil.copytree(bundle, folder / bundle.name, ignore=shutil.ignore_patterns("models"))
    train = read_json(copy / "configs/train.json")
    phantom = write_phantom(bundle, folder.with_name(f"{folder.name}_phantom"))
    data = folder / train["dataset_dir"]
    data.parent.mkdir(parents=True)
    shutil.move(phantom["dataset_dir"], data)
    manifest = folder / train["manifest"].replace("$@bundle_root + '", bundle.name).rstrip("'")
    manifest.parent.mkdir(exist_ok=True)
    shutil.copy(phantom["manifest"], manifest)
    case = read_json(manifest)["cases"][0]
    images = [data / file["path"].partition("#")[0] for file in case["image"]]
    target = folder / "new" / images[0].parent.name
    target.mkdir(parents=True)
    for image in images:
        shutil.copy(image, target)
    return Lab(folder, bundle.name)


def run_alone(lab: Lab, *without: str) -> subprocess.CompletedProcess[str]:
    task: dict[str, Any] = {"packages": list(lab.packages), "without": without, "commands": lab.list_commands()}
    code = lab.folder.with_name("code")
    if not code.exists():
        code.mkdir()
        (code / "pipeline").symlink_to(ROOT / "pipeline")  # and not `bundles`, `tests`
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, str(ROOT / "tests/bundles/alone.py"), json.dumps(task)]
    return subprocess.run(
        line, cwd=lab.folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def assert_complete(lab: Lab) -> None:
    output = lab.folder / "output" / lab.bundle
    assert {path.name for path in lab.folder.iterdir()} <= {lab.bundle, "data", "data_manifests", "new", "output"}
    assert (output / "model.pt").is_file()
    assert (output / "last_epoch=2.pt").is_file()
    assert (output / "evaluate/metrics.csv").is_file()
    assert list((output / "predictions").rglob("*_pred.*"))
    assert list((output / "predictions").rglob("*_overlay.png"))


@pytest.fixture
def lab(bundle: Path, tmp_path: Path) -> Lab:
    folder = tmp_path / "lab"
    folder.mkdir()
    return open_lab(bundle, folder)


def test_a_bundle_alone_works_with_what_its_metadata_list(lab: Lab) -> None:
    before = lab.hash_bundle()
    done = run_alone(lab)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_complete(lab)
    assert lab.hash_bundle() == before, "nothing is written into the bundle"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a wheel, built from a copy, because a build writes beside its sources."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "pipeline", source / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("monai_segmentation_suite.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(target), str(source))
    (built,) = target.glob("*.whl")
    return built


def call(*words: str, cwd: Path | None = None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_bundle_alone_works_with_a_wheel_and_its_pins(name: str, wheel: Path, tmp_path: Path) -> None:
    """A new environment gets the versions of the metadata, the package from a wheel, and nothing else."""
    (tmp_path / "lab").mkdir()
    lab = open_lab(ROOT / "bundles" / name, tmp_path / "lab")
    before = lab.hash_bundle()
    metadata = read_json(ROOT / "bundles" / name / "configs/metadata.json")
    pins = lab.packages | {"monai": metadata["monai_version"], "torch": metadata["pytorch_version"]}
    pins |= {"numpy": metadata["numpy_version"]}
    pins.pop("monai-segmentation-suite")
    call(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    python = str(tmp_path / "venv/bin/python")
    call(python, "-m", "pip", "install", "--quiet", *(f"{package}=={version}" for package, version in pins.items()))
    call(python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel))
    for words in lab.list_commands():
        call(python, "-m", "monai.bundle", *words, cwd=lab.folder)
    assert_complete(lab)
    assert lab.hash_bundle() == before, "nothing is written into the bundle"
    shutil.rmtree(tmp_path / "venv")
