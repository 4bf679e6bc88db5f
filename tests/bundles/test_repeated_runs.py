"""Many runs in one process hold no more threads, processes and files than one."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.handlers import EpochSeed
from tests.bundles.conftest import ROOT
from tests.bundles.running import Trained, infer, train
from tests.one_line import expect_line

BUNDLE = ROOT / "bundles/isic_unet"
SMALL = {"image_size": [32, 32], "max_epochs": 1}
ALIKE = {"tqdm_monitor"}  # one for all runs


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of temporary files of this test alone; its path is short, because loaders' workers put sockets there."""
    with tempfile.TemporaryDirectory(prefix="runs") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


def hold(temporary: Path) -> tuple[Counter[str], int, int, list[Path]]:
    """Return threads by type, other processes, open files, and temporary files."""
    gc.collect()
    threads = Counter(type(thread).__name__ for thread in threading.enumerate() if thread.name not in ALIKE)
    files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    return threads, len(multiprocessing.active_children()), files, sorted(temporary.rglob("*"))


def test_runs_leave_nothing_behind(
    write_data: Callable[[Path], dict[str, str]], tmp_path: Path, temporary: Path
) -> None:
    data = write_data(BUNDLE)
    images = Path(data["dataset_dir"]) / "ISIC2018_Task1-2_Training_Input"
    first = Trained(BUNDLE, data, train(BUNDLE, data, tmp_path / "0", **SMALL))
    before = hold(temporary)
    for number in range(1, 3):
        train(BUNDLE, data, tmp_path / str(number), num_workers=number % 2, **SMALL)
        infer(first, image_size=[32, 32], input=str(images), output_dir=str(tmp_path / "masks"))
        assert hold(temporary) == before
    with expect_line("from an earlier run"):
        train(BUNDLE, data, tmp_path / "0", **SMALL)
    assert hold(temporary) == before


def test_a_run_that_is_stopped_leaves_nothing_behind(
    write_data: Callable[[Path], dict[str, str]], tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(BUNDLE)
    train(BUNDLE, data, tmp_path / "0", **SMALL)
    before = hold(temporary)
    monkeypatch.setattr(EpochSeed, "__call__", lambda handler, engine: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as caught:
        train(BUNDLE, data, tmp_path / "1", **SMALL)
    assert caught.value.code == 143
    assert hold(temporary) == before
