"""A checkpoint gives the position in the schedule and the moments; the config gives length, rate and the rest."""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.optimizers import ExponentialLR as MonaiExponentialLR
from monai.optimizers import LinearLR as MonaiLinearLR
from monai.optimizers import WarmupCosineSchedule
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from pipeline.handlers.checkpoints.restoring import list_rates, restore_objects
from pipeline.issues import InputError

PATH = Path("run/last_epoch=3.pt")
Build = Callable[[torch.optim.Optimizer, int], Any]

# Each with another shape for every length.
SCHEDULES: dict[str, Build] = {
    "WarmupCosineSchedule": lambda opt, n: WarmupCosineSchedule(opt, 2, n, warmup_multiplier=0.1),
    "monai.LinearLR": lambda opt, n: MonaiLinearLR(opt, 10.0, n + 1),
    "monai.ExponentialLR": lambda opt, n: MonaiExponentialLR(opt, 10.0, n + 1),
    "LambdaLR": lambda opt, n: lr_scheduler.LambdaLR(opt, lambda step: 1 - step / n),
    "MultiplicativeLR": lambda opt, n: lr_scheduler.MultiplicativeLR(opt, lambda step: 1 - 1 / n),
    "StepLR": lambda opt, n: lr_scheduler.StepLR(opt, n // 3),
    "MultiStepLR": lambda opt, n: lr_scheduler.MultiStepLR(opt, [n // 3, n // 2]),
    "ConstantLR": lambda opt, n: lr_scheduler.ConstantLR(opt, 0.3, n // 2),
    "LinearLR": lambda opt, n: lr_scheduler.LinearLR(opt, 0.1, total_iters=n),
    "ExponentialLR": lambda opt, n: lr_scheduler.ExponentialLR(opt, 1 - 1 / n),
    "PolynomialLR": lambda opt, n: lr_scheduler.PolynomialLR(opt, n, 0.9),
    "CosineAnnealingLR": lambda opt, n: lr_scheduler.CosineAnnealingLR(opt, n, eta_min=1e-5),
    "CosineAnnealingWarmRestarts": lambda opt, n: lr_scheduler.CosineAnnealingWarmRestarts(opt, n // 3, 2),
    "CyclicLR": lambda opt, n: lr_scheduler.CyclicLR(opt, 0.001, 0.1, n // 4, mode="triangular2"),
    "OneCycleLR": lambda opt, n: lr_scheduler.OneCycleLR(opt, 0.3, total_steps=n + 1),
    "SWALR": lambda opt, n: SWALR(opt, 0.05, anneal_epochs=n),
    "SequentialLR": lambda opt, n: lr_scheduler.SequentialLR(
        opt, [lr_scheduler.LinearLR(opt, 0.1, total_iters=2), lr_scheduler.CosineAnnealingLR(opt, n)], [n // 4]
    ),
    "ChainedScheduler": lambda opt, n: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(opt, 0.1, n // 3), lr_scheduler.ExponentialLR(opt, 1 - 1 / n)], opt
    ),
}


class Training:
    """Network, optimizer and schedule, stepped on fixed data."""

    def __init__(self, build: Build, length: int, rate: float = 0.1, **options: Any) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
        first, second = self.network
        groups = [{"params": first.parameters(), "lr": rate}, {"params": second.parameters(), "lr": rate / 2}]
        self.optimizer = torch.optim.SGD(groups, lr=rate, **{"momentum": 0.9, **options})
        self.objects = {
            "network": self.network,
            "optimizer": self.optimizer,
            "lr_scheduler": build(self.optimizer, length),
        }
        self.first_rates = list_rates(self.objects)

    def step(self, times: int) -> list[list[tuple[float, float]]]:
        """Train so many epochs; returns rate and momentum of each group in each."""
        seen = []
        for _ in range(times):
            seen.append([(group["lr"], group["momentum"]) for group in self.optimizer.param_groups])
            self.optimizer.zero_grad()
            self.network(torch.ones(1, 3)).sum().backward()
            self.optimizer.step()
            self.objects["lr_scheduler"].step()
        return seen

    def save(self) -> dict[str, Any]:
        stream = io.BytesIO()
        torch.save({name: item.state_dict() for name, item in self.objects.items()}, stream)
        stream.seek(0)
        saved: dict[str, Any] = torch.load(stream, weights_only=True)
        return saved


def restore(training: Training, source: Training) -> None:
    restore_objects(training.objects, source.save(), source.first_rates, PATH)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(
    ("length", "rate"), [(12, 0.1), (12, 0.02), (30, 0.1), (30, 0.5)], ids=["same", "rate", "longer", "both"]
)
def test_from_the_resume_on_the_rate_is_that_of_an_uninterrupted_run(name: str, length: int, rate: float) -> None:
    expected = Training(SCHEDULES[name], length, rate).step(12)
    for done in (1, 5, 11):
        first = Training(SCHEDULES[name], 12)
        first.step(done)
        second = Training(SCHEDULES[name], length, rate)
        restore(second, first)
        assert second.step(12 - done) == expected[done:]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_cases_above_do_differ(name: str) -> None:
    rates = [Training(SCHEDULES[name], length).step(12) for length in (12, 30)]
    assert rates[0] != rates[1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_a_change_everything_is_as_saved(name: str) -> None:
    first, second = Training(SCHEDULES[name], 12), Training(SCHEDULES[name], 12)
    first.step(5)
    restore(second, first)
    assert second.save()["lr_scheduler"] == first.save()["lr_scheduler"]
    assert second.save()["optimizer"]["param_groups"] == first.save()["optimizer"]["param_groups"]
    first.step(5)
    second.step(5)
    torch.testing.assert_close(second.network.state_dict(), first.network.state_dict(), rtol=0, atol=0)


def test_moments_are_kept_and_hyper_parameters_follow_the_config() -> None:
    first = Training(SCHEDULES["LambdaLR"], 12, weight_decay=0.1, nesterov=True)
    first.step(3)
    second = Training(SCHEDULES["LambdaLR"], 12, weight_decay=0.3, momentum=0.5)
    restore(second, first)
    for group in second.optimizer.param_groups:
        assert (group["weight_decay"], group["momentum"], group["nesterov"]) == (0.3, 0.5, False)
    moments = [
        [training.optimizer.state[weight]["momentum_buffer"] for weight in training.network.parameters()]
        for training in (first, second)
    ]
    torch.testing.assert_close(moments[1], moments[0], rtol=0, atol=0)


def test_another_schedule_goes_on_at_the_same_epoch() -> None:
    first = Training(SCHEDULES["ConstantLR"], 12)
    first.step(5)
    second = Training(SCHEDULES["PolynomialLR"], 12)
    restore(second, first)
    assert second.step(7) == Training(SCHEDULES["PolynomialLR"], 12).step(12)[5:]


def test_without_a_schedule_the_new_rate_counts() -> None:
    first, second = Training(SCHEDULES["ConstantLR"], 2, 0.1), Training(SCHEDULES["ConstantLR"], 2, 0.7)
    for training in (first, second):
        del training.objects["lr_scheduler"]
    restore(second, first)
    assert list_rates(second.objects) == second.first_rates


def test_the_change_is_told(caplog: pytest.LogCaptureFixture) -> None:
    first, second = (Training(SCHEDULES["PolynomialLR"], length) for length in (4, 8))
    first.step(4)
    with caplog.at_level(logging.INFO, "pipeline"):
        restore(second, first)
    rate = second.optimizer.param_groups[0]["lr"]
    assert f"the learning rate follows the settings of now: {rate:.4g} in the next epoch, where the former had 0" in (
        caplog.text
    )
    caplog.clear()
    with caplog.at_level(logging.INFO, "pipeline"):
        restore(Training(SCHEDULES["PolynomialLR"], 4), first)
    assert "learning rate" not in caplog.text


def test_torch_does_not_warn_about_the_order_of_steps(recwarn: pytest.WarningsRecorder) -> None:
    first, second = (Training(SCHEDULES["StepLR"], 12) for _ in range(2))
    first.step(3)
    restore(second, first)
    second.step(2)
    assert not [str(warning.message) for warning in recwarn if "lr_scheduler" in str(warning.message)]


def test_a_schedule_that_is_already_over() -> None:
    first, second = Training(SCHEDULES["OneCycleLR"], 12), Training(SCHEDULES["OneCycleLR"], 4)
    first.step(8)
    with pytest.raises(
        InputError, match=r"OneCycleLR cannot be brought to step 8 of run/last_epoch=3.pt: .*total"
    ) as caught:
        restore(second, first)
    assert str(caught.value).endswith(
        "set max_epochs and lr_scheduler back, or start a new run in another --output_dir"
    )
    restore(Training(SCHEDULES["OneCycleLR"], 12), first)


def build_plateau(optimizer: torch.optim.Optimizer, length: int) -> Any:
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=1 / length, patience=1, mode="max")


def plateau(length: int = 2, rate: float = 0.1, scores: list[float] | None = None) -> Training:
    training = Training(build_plateau, length, rate)
    for score in scores or ():
        training.optimizer.step()
        training.objects["lr_scheduler"].step(score)
    return training


def test_a_plateau_goes_on_where_it_was() -> None:
    first, second = plateau(scores=[0.5, 0.4, 0.3, 0.2]), plateau()
    restore(second, first)
    assert list_rates(second.objects) == [0.05, 0.025]
    for training in (first, second):
        training.objects["lr_scheduler"].step(0.1)
    assert list_rates(second.objects) == list_rates(first.objects) == [0.025, 0.0125]


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"length": 4}, "factor of ReduceLROnPlateau was 0.5 and is 0.25, but its learning rate depends on the scores"),
        (
            {"rate": 0.3},
            "the learning rate was 0.1 and is 0.3, but ReduceLROnPlateau cannot go on from run/last_epoch=3",
        ),
    ],
)
def test_a_plateau_with_other_settings_is_refused(now: dict[str, Any], message: str) -> None:
    first = plateau(scores=[0.5, 0.4])
    with pytest.raises(InputError, match=message) as caught:
        restore(plateau(**now), first)
    assert str(caught.value).endswith("set it back, or start a new run in another --output_dir")


def test_a_plateau_in_place_of_another_schedule_is_refused() -> None:
    first = Training(SCHEDULES["StepLR"], 12)
    first.step(3)
    with pytest.raises(InputError, match="lr_scheduler: it is not the state of a ReduceLROnPlateau; set it back, or"):
        restore(plateau(), first)


def test_a_plateau_may_be_replaced() -> None:
    second = Training(SCHEDULES["PolynomialLR"], 12)
    restore(second, plateau(scores=[0.5, 0.4, 0.3, 0.2]))
    assert second.step(3) == Training(SCHEDULES["PolynomialLR"], 12).step(7)[4:]


class Average:
    """Any object with a state, such as a moving average of weights."""

    def __init__(self) -> None:
        self.state = {"updates": 0}

    def state_dict(self) -> dict[str, int]:
        return self.state

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.state = dict(state)


def test_an_object_of_another_kind_gets_its_state() -> None:
    first, second = Training(SCHEDULES["StepLR"], 12), Training(SCHEDULES["StepLR"], 12)
    first.objects["average"], second.objects["average"] = Average(), Average()
    first.objects["average"].state = {"updates": 7}
    first.step(5)
    restore(second, first)
    assert second.objects["average"].state == {"updates": 7}
    assert second.step(3) == Training(SCHEDULES["StepLR"], 12).step(8)[5:]


@pytest.mark.parametrize("first_rates", [None, [0.1, 0.05]])
def test_checkpoints_without_the_first_rates_resume(first_rates: list[float] | None) -> None:
    first, second = plateau(scores=[0.5, 0.4]), plateau()
    restore_objects(second.objects, first.save(), first_rates, PATH)
    assert list_rates(second.objects) == list_rates(first.objects)


def test_another_number_of_groups() -> None:
    first, second = Training(SCHEDULES["StepLR"], 12), Training(SCHEDULES["StepLR"], 12)
    second.objects["optimizer"] = torch.optim.SGD(second.network.parameters(), 0.1)
    del first.objects["lr_scheduler"], second.objects["lr_scheduler"]
    with pytest.raises(
        InputError, match="does not fit this experiment: optimizer: it has 2 groups of parameters, expected 1"
    ):
        restore(second, first)


def test_a_second_resume_in_one_process() -> None:
    first, second = Training(SCHEDULES["StepLR"], 12), Training(SCHEDULES["StepLR"], 12)
    first.step(3)
    restore(second, first)
    restore(second, first)
    assert second.step(3) == Training(SCHEDULES["StepLR"], 12).step(6)[3:]
    with pytest.raises(InputError, match=r"StepLR has gone on in this process after .*: resume in a new process"):
        restore(second, first)
