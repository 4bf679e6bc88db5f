"""A long training that is killed and resumed goes on as if nothing had happened.

So what a training keeps in memory must not change: the resumed one reads its cases from files again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bundles.conftest import ROOT, write_phantom
from tests.bundles.running import EXACT, configs, read_scalars, train

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(1800)]

EPOCHS, KILLED_AFTER = 40, 30
# More cases than the phantom has, so that rare draws happen; a network that is fast.
CASES = {"isic_unet": {"images": 12}, "lgg_unet": {}, "hippocampus_segresnet": {}}
KNOBS = {"max_epochs": EPOCHS, "val_interval": 10, "early_stop_patience": EPOCHS, "num_workers": 0}


@pytest.mark.parametrize("name", CASES)
def test_a_run_of_40_epochs_resumes_exactly(name: str, tmp_path: Path) -> None:
    bundle = ROOT / "bundles" / name
    data = write_phantom(bundle, tmp_path, **CASES[name])
    straight = train(bundle, data, tmp_path / "straight", **KNOBS)
    killed = tmp_path / "killed"
    kill_after(killed / f"last_epoch={KILLED_AFTER}.pt", start(bundle, data, killed))
    train(bundle, data, killed, **KNOBS, resume=True)
    losses, expected = (dict(read_scalars(folder)["train_loss"]) for folder in (killed, straight))
    # The killed process may have lost the last losses that it had not written yet.
    assert losses.items() <= expected.items()
    assert sorted(losses)[-5:] == sorted(expected)[-5:]
    for file in (f"last_epoch={EPOCHS}.pt", "model.pt"):
        ours, theirs = (torch.load(folder / file, weights_only=True) for folder in (killed, straight))
        assert_equal(ours.get("network", ours), theirs.get("network", theirs))


def start(bundle: Path, data: dict[str, str], output_dir: Path) -> subprocess.Popen[bytes]:
    """Start a training in a process of its own."""
    options: dict[str, Any] = {"bundle_root": bundle, "output_dir": output_dir, **EXACT, **data, **KNOBS}
    arguments = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    files = str(configs(bundle, "train.json", "phantom.json"))
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after(file: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for a file, then kill the process as a full memory or a reboot does."""
    try:
        while not file.exists():
            assert process.poll() is None, "ended before"
            time.sleep(0.02)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
