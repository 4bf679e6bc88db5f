"""A file system that is really full: one line, and every file that has a final name is whole."""

import os
import shutil

import pytest
import tiny_training
import torch
from ignite.engine import Events

from pipeline.handlers.checkpoints.atomic_save import save_state
from pipeline.handlers.checkpoints.checkpoint_files import find_last
from pipeline.issues import InputError
from tests.disks import mount_tmpfs

pytestmark = [pytest.mark.fault, pytest.mark.timeout(60)]


@pytest.fixture
def small_disk(tmp_path):
    """File system of 6 MB."""
    with mount_tmpfs(tmp_path / "disk", "size=6m") as folder:
        yield folder


def fill(folder, leave):
    """Write a file that leaves so many bytes free."""
    (folder / "filler").write_bytes(bytes(shutil.disk_usage(folder).free - leave))


class FillAt:
    """Another program fills the disk in an epoch."""

    def __init__(self, epoch, folder, leave):
        self.epoch, self.folder, self.leave = epoch, folder, leave

    def attach(self, engine):
        engine.add_event_handler(Events.EPOCH_STARTED(once=self.epoch), lambda: fill(self.folder, self.leave))


def test_a_disk_that_fills_up_in_training(small_disk):
    folder = small_disk / "run"
    trainer = tiny_training.build_trainer(folder, width=500, before=[FillAt(3, small_disk, 16_384)])
    with pytest.raises(InputError) as caught:
        trainer.run()
    line = str(caught.value)
    assert line.startswith(f"disk full at {folder}: needed ")
    assert line.endswith(f"last good checkpoint: {folder}/last_epoch=2.pt")
    assert [path.name for path in find_last(folder)] == ["last_epoch=2.pt", "last_epoch=1.pt"]
    assert {path.name for path in folder.glob(".*")} == set()
    for path in [folder / "model.pt", *find_last(folder)]:
        assert torch.load(path, weights_only=True)

    (small_disk / "filler").unlink()
    resumed = tiny_training.build_trainer(folder, width=500, resume=True)
    resumed.run()
    assert resumed.state.epoch == 4


def test_a_write_that_fails_half_way(small_disk):
    path = small_disk / "model.pt"
    save_state({"weight": torch.zeros(10)}, path)
    with pytest.raises(InputError, match=r"disk full at .*; last good checkpoint: the first"):
        save_state({"text": "x" * 8_000_000}, path, last_good="the first")  # its size is not foreseen
    assert torch.load(path, weights_only=True).keys() == {"weight"}
    assert os.listdir(small_disk) == ["model.pt"]


def test_a_disk_that_is_too_small_from_the_start(small_disk):
    fill(small_disk, 500_000)
    trainer = tiny_training.build_trainer(small_disk / "run", width=500)
    with pytest.raises(InputError, match=r"^too little disk space in .*: the run needs .* free \d+\.\d kB$"):
        trainer.run()
    assert trainer.state.iteration == 0
