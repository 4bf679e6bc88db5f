"""SwanLab gets what TensorBoard gets, and stays offline; the real package runs in tests/clients."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.handlers import open_swanlab_writer
from pipeline.issues import InputError


class Run:
    """A run that keeps what it is told."""

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, Any], int]] = []
        self.alive = True

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((values, step))

    def finish(self) -> None:
        assert self.alive
        self.alive = False


@pytest.fixture
def swanlab(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put a stand-in where the package is imported from."""
    module = SimpleNamespace(run=Run(), Image=lambda pixels: ("image", pixels.shape))
    module.Settings = lambda **options: options
    module.Settings.Terminal = module.Settings.Probe = lambda **options: options
    module.init = lambda **options: setattr(module, "options", options) or module.run
    monkeypatch.setitem(sys.modules, "swanlab", module)
    monkeypatch.delenv("SWANLAB_MODE", raising=False)
    return module


def test_both_get_numbers_and_images(swanlab: SimpleNamespace, tmp_path: Path) -> None:
    writer = open_swanlab_writer(str(tmp_path))
    writer.add_scalar("loss", np.float32(0.5), 3)
    writer.add_image("case", np.zeros((4, 6, 3), np.uint8), 2, dataformats="HWC")
    writer.add_image("first", np.zeros((3, 4, 6), np.uint8), 2)
    writer.flush()
    writer.close()
    writer.close()  # as after an error, twice
    images = [({"case": ("image", (4, 6, 3))}, 2), ({"first": ("image", (4, 6, 3))}, 2)]
    assert swanlab.run.logged == [({"loss": 0.5}, 3), *images]
    assert not swanlab.run.alive
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 0.5)]
    assert events.Tags()["images"] == ["case", "first"]


def test_it_is_offline_and_names_nobody(
    swanlab: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_swanlab_writer(str(tmp_path), "lgg").close()
    assert (swanlab.options["mode"], swanlab.options["project"]) == ("offline", "lgg")
    assert swanlab.options["log_dir"] == str(tmp_path / "swanlab")
    assert swanlab.options["settings"]["probe"] == {"runtime": False, "git": False}
    monkeypatch.setenv("SWANLAB_MODE", "local")
    swanlab.run = Run()
    open_swanlab_writer(str(tmp_path)).close()
    assert swanlab.options["mode"] == "local"


def test_other_processes_write_nothing(
    swanlab: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    writer = open_swanlab_writer(str(tmp_path))
    writer.add_scalar("loss", 0.5, 3)
    writer.close()
    assert swanlab.run.logged == []
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "swanlab", None)
    with pytest.raises(InputError, match=r"pip install 'monai-segmentation-suite\[swanlab\]', or leave out swanlab"):
        open_swanlab_writer(str(tmp_path))
    assert not list(tmp_path.iterdir()), "nothing was begun"
