"""LearningRateLog: one point an epoch, the rate that is in force."""

import pytest
import torch
from ignite.engine import Engine, Events

from pipeline.handlers import LearningRateLog


class Recorder:
    """Stand in for TensorBoard's writer."""

    def __init__(self):
        self.points = []

    def add_scalar(self, tag, value, step):
        self.points.append((tag, value, step))


def run(optimizer, writer, epochs=3, **options):
    engine = Engine(lambda engine, batch: None)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    LearningRateLog(writer, optimizer, **options).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: schedule.step())
    engine.run([0, 1], max_epochs=epochs)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_rate_of_each_epoch():
    writer = Recorder()
    run(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.4), writer)
    assert writer.points == [("learning_rate", pytest.approx(0.4 * 0.5**k), k + 1) for k in range(3)]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_groups_have_curves_of_their_own():
    writer = Recorder()
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.01)]
    run(torch.optim.SGD(groups), writer, epochs=1, tag="lr")
    assert writer.points == [("lr/group_0", 0.1, 1), ("lr/group_1", 0.01, 1)]


def test_rate_kept_as_a_tensor_is_written_as_a_number():
    writer = Recorder()
    run(torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], torch.tensor(0.25)), writer, epochs=1)
    assert writer.points == [("learning_rate", 0.25, 1)]
    assert type(writer.points[0][1]) is float
