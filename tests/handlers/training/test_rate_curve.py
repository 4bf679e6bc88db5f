"""A schedule as a curve: the same rates as its steps, lines between them, and nothing changed by looking."""

import copy

import pytest
import torch
from monai.optimizers import WarmupCosineSchedule
from torch.optim import lr_scheduler

from pipeline.handlers.training.rate_curve import RateCurve

STEPS = 10
SCHEDULES = {
    "monai": lambda optimizer: WarmupCosineSchedule(optimizer, warmup_steps=1, warmup_multiplier=0.1, t_total=STEPS),
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, STEPS),
    "poly": lambda optimizer: lr_scheduler.PolynomialLR(optimizer, STEPS, 0.9),
    "step": lambda optimizer: lr_scheduler.StepLR(optimizer, 4),
    "onecycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=STEPS),
    "sequential": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.ConstantLR(optimizer, 0.3, 3), lr_scheduler.ExponentialLR(optimizer, 0.5)], [3]
    ),
}


def build(name):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.01)]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    return optimizer, SCHEDULES[name](optimizer)


def read(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore:Detected call:UserWarning", "ignore:The epoch parameter:UserWarning")
def test_the_curve_has_the_rates_of_the_steps(name):
    optimizer, schedule = build(name)
    before = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
    curve = RateCurve(schedule, STEPS)
    assert str((optimizer.state_dict(), schedule.state_dict())) == str(before)
    other, stepped = build(name)
    for step in range(STEPS + 1):
        curve.follow(step / STEPS)
        assert read(optimizer) == pytest.approx(read(other)), step
        if step < STEPS:
            here = read(other)
            stepped.step()
            curve.follow((step + 0.25) / STEPS)
            expected = [a + 0.25 * (b - a) for a, b in zip(here, read(other), strict=True)]
            assert read(optimizer) == pytest.approx(expected), step


def test_shares_outside_are_the_ends():
    optimizer, schedule = build("cosine")
    curve = RateCurve(schedule, STEPS)
    curve.follow(1.7)
    assert read(optimizer) == pytest.approx([0.0, 0.0], abs=1e-12)
    curve.follow(-1.0)
    assert read(optimizer) == [0.1, 0.01]


def test_a_plateau_keeps_its_rate():
    optimizer, _ = build("step")
    curve = RateCurve(lr_scheduler.ReduceLROnPlateau(optimizer), STEPS)
    optimizer.param_groups[0]["lr"] = 0.033
    curve.follow(0.5)
    assert read(optimizer) == [0.033, 0.01]
