"""What a receiver does with each bundle, in an environment made by the commands of the packed README.txt.

Nothing of this repository is there but the packed wheel: another folder, no PYTHONPATH, an empty home. Needs a package
index, some gigabytes, and an hour for all bundles on two cores.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.bundle.packing.untrained import copy_with_weights
from tests.bundles.conftest import NAMES, ROOT, read_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
_NO_INDEX = ("No matching distribution", "Failed to establish", "Could not find a version")


def list_lines(bundle: Path) -> list[str]:
    """Return the commands of a packed bundle's README.txt."""
    lines = (bundle / "README.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


@dataclass(frozen=True)
class Receiver:
    """A folder of the receiver: the environment, an empty home, and a folder for each bundle."""

    folder: Path

    def run(self, line: str, place: Path) -> str:
        """Run what was typed; returns what it printed."""
        kept = {name: os.environ[name] for name in os.environ if name.startswith("PIP_") or name in ("PATH", "LANG")}
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
        environment = {**kept, **threads, "HOME": str(self.folder / "home")}
        done = subprocess.run(line, shell=True, cwd=place, env=environment, capture_output=True, text=True, check=False)
        if any(words in done.stderr for words in _NO_INDEX):
            pytest.skip(f"no package index: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def unpack(self, archive: Path) -> Path:
        """Unpack without this package, in an empty folder beside which the environment lies."""
        place = self.folder / archive.stem
        place.mkdir()
        (place / "env").symlink_to(self.folder / "env")
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(place)
        return place / archive.stem


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Receiver:
    folder = tmp_path_factory.mktemp("receiver")
    (folder / "home").mkdir()
    return Receiver(folder)


def pack(name: str, folder: Path) -> Path:
    pytest.importorskip("cyclonedx", reason="the extra pack is not installed")
    from pipeline.bundle.packing.assembly import pack_bundle

    bundle = copy_with_weights(ROOT / "bundles" / name, folder)
    packed = pack_bundle(bundle, folder / f"{name}.zip")
    assert packed.obstacle == ""
    return packed.archive


def read_masks(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return what was predicted, by file name."""
    pictures = {path.name: np.asarray(Image.open(path)) for path in folder.rglob("*_pred.png")}
    volumes = {path.name: np.asarray(nib.load(path).dataobj) for path in folder.rglob("*_pred.nii.gz")}
    stacks = {path.name: hash_file(path) for path in folder.rglob("*_pred.tif*")}
    return {**pictures, **volumes, **stacks}


def hash_file(path: Path) -> np.ndarray[Any, Any]:
    return np.frombuffer(hashlib.sha256(path.read_bytes()).digest(), np.uint8)


def predict_at_home(line: str, archive: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Run the receiver's command with this Python, in another copy."""
    place = archive.parent / "home"
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(place)
    words = shlex.split(line)
    words[:1] = [sys.executable, *(["-m", "pipeline"] if Path(words[0]).stem == "pipeline" else [])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(words, cwd=place / archive.stem, env=environment, capture_output=True, check=True)
    return read_masks(place / "predictions")


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_verifies_predicts_evaluates_and_trains_elsewhere(
    name: str, receiver: Receiver, tmp_path: Path
) -> None:
    archive = pack(name, tmp_path)
    bundle = receiver.unpack(archive)
    before = {path: hash_file(path).tobytes() for path in bundle.rglob("*") if path.is_file()}
    said = []
    for line in list_lines(bundle):
        if "-m venv" not in line or not (receiver.folder / "env").exists():
            said.append(receiver.run(line.replace("-m venv ../env", f"-m venv {receiver.folder / 'env'}"), bundle))
    assert any("reference case: all" in text for text in said)
    found = read_masks(bundle.parent / "predictions")
    (predict,) = (line for line in list_lines(bundle) if "reference/input" in line)
    wanted = predict_at_home(predict, archive)
    assert wanted
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[file], wanted[file]) for file in wanted)

    data = write_phantom(receiver, bundle)
    run = "../env/bin/python -m monai.bundle run --config_file"
    receiver.run(f"{run} \"['configs/train.json','configs/evaluate.json']\" {data} --output_dir ../scores", bundle)
    assert (bundle.parent / "scores/metrics.csv").is_file()
    train = f"{run} \"['configs/train.json','configs/phantom.json']\" {data} --output_dir ../trained --max_epochs 1"
    receiver.run(train, bundle)
    assert (bundle.parent / "trained/model.pt").is_file()
    after = {path: hash_file(path).tobytes() for path in bundle.rglob("*") if path.is_file()}
    assert after == before, "nothing is written into the bundle"
    # The check of a dataset is remembered in a cache; pip asks a Rust compiler, if there is one, for its version.
    assert {path.name for path in (receiver.folder / "home").iterdir()} <= {".cache", ".rustup"}, "nor into the home"


def write_phantom(receiver: Receiver, bundle: Path) -> str:
    """Write the dataset that the bundle's metadata names, with the packed wheel; returns the options that name it."""
    phantom = read_json(bundle / "configs/metadata.json")["phantom"]
    options = " ".join(f"--{name} {value}" for name, value in phantom["options"].items())
    command = f"../env/bin/python -m pipeline dataset phantom {phantom['layout']} ../data {options}"
    written = bundle / receiver.run(command, bundle).splitlines()[-1]
    (root,) = (path for path in written.parent.iterdir() if path.is_dir())
    manifest = written.with_name(phantom.get("manifest", written.name))
    return f"--dataset_dir {root} --manifest {manifest}"
