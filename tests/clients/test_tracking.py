"""MLflow and SwanLab record what TensorBoard gets, from every bundle, without a network."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bundles.conftest import ROOT
from tests.bundles.running import configs, name_key_metric, read_scalars

# A folder of their own: SwanLab excludes the protobuf of the other packages.
PACKAGES = Path(os.environ.get("TRACKING_PACKAGES", Path(sys.prefix) / "tracking"))
OFFLINE = ["unshare", "-n"] if hasattr(os, "getuid") and os.getuid() == 0 else ["unshare", "-rn"]
if not (PACKAGES / "swanlab").is_dir():
    pytest.skip("MLflow and SwanLab are installed by make test-clients", allow_module_level=True)
if not shutil.which("unshare") or subprocess.run([*OFFLINE, "true"], check=False, capture_output=True).returncode:
    pytest.skip("this user cannot run a process without a network", allow_module_level=True)

# Prints what SwanLab's file holds: numbers by curve, images by name, the state at the end.
READ = """
import glob, json, sys
from swanlab.proto.swanlab.record.v1.record_pb2 import Record
from swanlab.sdk.internal.core_python.store import DataStoreReader
(file,) = glob.glob(sys.argv[1] + "/swanlab/*/*.swanlab")
reader, record, scalars, images, ends = DataStoreReader(), Record(), {}, {}, 0
reader.open(file)
while (data := reader.scan()) is not None:
    record.ParseFromString(data)
    if record.HasField("scalar"):
        scalars.setdefault(record.scalar.key, []).append((record.scalar.step, record.scalar.value.number))
    elif record.HasField("media"):
        images.setdefault(record.media.key, []).append(record.media.step)
    ends += record.HasField("finish")
print(json.dumps([scalars, images, ends]))
"""


def run_offline(*words: str) -> str:
    """Run Python without a network, with the packages for tracking before the others."""
    path = os.pathsep.join([str(PACKAGES), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("SWANLAB_MODE", None)
    line = [*OFFLINE, sys.executable, *words]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def start(bundle: Path, folder: Path, *files: str, **values: Any) -> str:
    options = {"output_dir": folder, "amp": False, "tracking": "mlflow", **values}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    names = configs(bundle, *files, "phantom.json")
    return run_offline("-m", "monai.bundle", "run", "--config_file", str(names), *words)


def read_database(folder: Path) -> tuple[list[str], dict[str, list[tuple[int, float]]]]:
    """Return the states of MLflow's runs, and their metrics as `read_scalars` does."""
    with sqlite3.connect(folder / "mlruns.db") as database:
        states = [state for (state,) in database.execute("select status from runs")]
        rows = database.execute("select key, step, value from metrics where not is_nan order by step").fetchall()
    return states, {name: [(step, value) for key, step, value in rows if key == name] for name, _, _ in rows}


def choose_scores(curves: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Leave out scores that are not numbers, and the curves of the machine that SwanLab adds."""
    finite = {name: [(step, value) for step, value in curve if value == value] for name, curve in curves.items()}
    return {name: curve for name, curve in finite.items() if curve and not name.startswith("__swanlab__")}


def test_a_training_is_tracked(name: str, write_data: Callable[[Path], dict[str, str]], tmp_path: Path) -> None:
    bundle = ROOT / "bundles" / name
    start(bundle, tmp_path, "train.json", "swanlab.json", **write_data(bundle), max_epochs=2, val_interval=1)
    board = choose_scores(read_scalars(tmp_path))
    assert {"train_loss", name_key_metric(bundle)} <= set(board)
    assert any(curve.startswith("learning_rate") for curve in board)  # one for each group of parameters

    states, metrics = read_database(tmp_path)
    assert states == ["FINISHED"]
    for curve in ("train_loss", name_key_metric(bundle)):
        assert dict(metrics[curve]) == pytest.approx(dict(board[curve]), rel=1e-6), curve

    scalars, images, ends = json.loads(run_offline("-c", READ, str(tmp_path)))
    found = {curve: dict(points) for curve, points in choose_scores(scalars).items()}
    assert found == {curve: pytest.approx(dict(points), rel=1e-6) for curve, points in board.items()}
    assert ends == 1
    assert any(curve.startswith("cases/") and steps == [1, 2] for curve, steps in images.items()), images
    recorded = "".join(path.read_text() for path in tmp_path.glob("swanlab/*/files/*"))
    assert os.uname().nodename not in recorded.split('"')


def test_an_evaluation_and_a_prediction_are_tracked(
    write_data: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    bundle = ROOT / "bundles/lgg_unet"
    data = write_data(bundle)
    start(bundle, tmp_path / "train", "train.json", **data, max_epochs=1)
    weights = {"checkpoint": tmp_path / "train/model.pt"}
    start(bundle, tmp_path / "scores", "train.json", "evaluate.json", **data, **weights)
    _, metrics = read_database(tmp_path / "scores")
    with (tmp_path / "scores/metrics.csv").open(newline="") as file:
        table = {row[0]: row[1] for row in csv.reader(file)}
    assert dict(metrics["dice_patient"]) == {1: pytest.approx(float(table["dice_patient"]), abs=1e-4)}
    start(bundle, tmp_path / "masks", "inference.json", input=data["dataset_dir"], **weights)
    assert read_database(tmp_path / "masks")[0] == ["FINISHED"]
