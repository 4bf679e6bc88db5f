"""CompiledNetwork: torch.compile changes the speed of a training and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from tiny_training import read_losses
from torch._dynamo.utils import counters
from whole_training import build

LINE = "torch.compile: the first iterations and the first validation make the code"


def test_a_compiled_training_computes_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counters.clear()
    build(tmp_path / "plain", 2).run()
    assert not [line for line in caplog.messages if line.startswith(LINE)]
    assert not counters["stats"]["unique_graphs"]
    build(tmp_path / "compiled", 2, compile_network="true").run()
    assert len([line for line in caplog.messages if line.startswith(LINE)]) == 1
    assert counters["stats"]["unique_graphs"] >= 1
    plain, compiled = (read_losses(tmp_path / name / "losses.txt") for name in ("plain", "compiled"))
    assert compiled.keys() == plain.keys()
    for step, loss in plain.items():
        assert float.fromhex(compiled[step]) == pytest.approx(float.fromhex(loss), rel=1e-3)
    ours, theirs = (torch.load(tmp_path / f"{name}/model.pt", weights_only=True) for name in ("compiled", "plain"))
    assert ours.keys() == theirs.keys()


def test_one_goes_on_without_the_other(tmp_path: Path) -> None:
    """The checkpoint of a compiled training is that of any other."""
    build(tmp_path, 1, compile_network=True).run()
    trainer = build(tmp_path, 2, resume=True)
    trainer.run()
    assert trainer.state.epoch == 2
