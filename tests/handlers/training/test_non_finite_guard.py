"""NonFiniteGuard: a loss that is no number stops the run and names the cases."""

import re

import pytest
import tiny_training
import torch
from ignite.engine import Engine

from pipeline.handlers import NonFiniteGuard
from pipeline.issues import InputError


def run(losses, **options):
    engine = Engine(lambda engine, batch: losses[engine.state.iteration - 1])
    NonFiniteGuard(**options).attach(engine)
    engine.run([{"case_id": ["a"]}] * len(losses))
    return engine


def test_the_line_says_all_that_is_known(tmp_path, caplog):
    trainer = tiny_training.build_trainer(tmp_path, before=[tiny_training.PoisonAt(8)])
    with pytest.raises(InputError) as caught:
        trainer.run()
    line = str(caught.value)
    assert line.startswith("loss is nan in epoch 3, iteration 8: cases case_")
    assert line.count("case_") == 2
    assert re.search(r"; last finite loss 0\.\d+; learning rate 0\.005; last checkpoint .*last_epoch=2\.pt; try ", line)
    assert "\n" not in line
    # ignite and MONAI's StatsHandler would log it again, with a trace.
    assert "loss is nan" not in caplog.text


@pytest.mark.parametrize(
    "loss", [float("nan"), float("inf"), torch.tensor([1.0, -float("inf")]), {"loss": float("nan")}]
)
def test_every_shape_of_loss(loss):
    with pytest.raises(InputError, match=r"^loss is (nan|-?inf) in epoch 1, iteration 2: cases a; last finite loss 1;"):
        run([1.0, loss])


def test_the_first_iteration_has_no_finite_loss_before(tmp_path):
    with pytest.raises(InputError, match="last finite loss none"):
        run([float("nan")], output_dir=tmp_path)


@pytest.mark.parametrize("output", [0.5, [{"loss": 0.5}], [], None, {"pred": 1}, "text"])
def test_everything_else_passes(output):
    assert run([output]).state.epoch == 1


def test_unknown_cases():
    engine = Engine(lambda engine, batch: float("nan"))
    NonFiniteGuard().attach(engine)
    with pytest.raises(InputError, match="cases unknown"):
        engine.run([torch.zeros(1)])
