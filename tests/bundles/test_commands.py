"""The documented commands, typed as a user types them: each in a process of its own, the slow tests in a new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import run

from tests.bundles.conftest import BUNDLES, ROOT
from tests.forked import run_module

# A process takes longer to start than a phantom to train, and what differs between bundles, or goes wrong, is tested
# without one (`test_workflows.py`): these tests take the first bundle, and most are slow.


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MONAI_ALLOW_MISSING_REFERENCE": "0"}
    line = [sys.executable, "-m", "monai.bundle", "run", *words]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def list_files(folder: str) -> str:
    return f"['{folder}/configs/train.json','{folder}/configs/phantom.json']"


@pytest.mark.parametrize("place", [pytest.param("repository", marks=pytest.mark.slow), "elsewhere"])
def test_documented_command(place: str, write_data, tmp_path: Path) -> None:
    bundle = BUNDLES[0]
    if place == "repository":
        where, start = ROOT, ["--config_file", list_files(f"bundles/{bundle.name}")]
    else:
        where = tmp_path
        start = ["--config_file", list_files(str(bundle)), "--bundle_root", str(bundle)]
    knobs = {**write_data(bundle), "max_epochs": 1, "output_dir": str(tmp_path / "out")}
    options = [word for key, value in knobs.items() for word in (f"--{key}", str(value))]
    if place == "repository":
        result = command(*start, *options, cwd=where)
    else:
        result = run_module("monai.bundle", "run", *start, *options, cwd=where)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "out/model.pt").is_file()
    assert not (tmp_path / "bundles").exists()


@pytest.mark.slow
def test_missing_data_leave_no_trace() -> None:
    config = f"bundles/{BUNDLES[0].name}/configs/train.json"
    result = command("--config_file", config, "--dataset_dir", "nowhere", cwd=ROOT)
    assert result.returncode == 1
    assert "data_manifests" in result.stderr.strip().splitlines()[-1] or "nowhere" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (ROOT / "nowhere").exists()


def test_misspelt_config_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    config = f"bundles/{BUNDLES[0].name}/configs/trian.json"
    monkeypatch.chdir(ROOT)
    with pytest.raises((SystemExit, Exception)) as caught:
        run(config_file=config, logging_file=False)
    assert config in str(caught.value).strip().splitlines()[-1]
