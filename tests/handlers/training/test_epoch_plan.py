"""What fits into a time: epochs, their length, their validations."""

import itertools

import pytest

from pipeline.handlers.training.epoch_plan import EpochPlan, count_further_epochs, count_validations, plan_epochs


def plan(seconds, iteration=1.0, validation=10.0, length=100, epochs=50, interval=1):
    return plan_epochs(seconds, iteration, validation, length, epochs, interval)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Everything fits, to the second.
        ({"seconds": 5500}, EpochPlan(50, 100, 50, True)),
        ({"seconds": 5100, "interval": 5}, EpochPlan(50, 100, 10, True)),
        # One second less: all epochs, each a little shorter.
        ({"seconds": 5499, "interval": 5, "epochs": 60}, EpochPlan(55, 97, 11, False)),
        # Less than an epoch: five short ones. Each validation takes 10 s of at most 16.
        ({"seconds": 80, "interval": 5}, EpochPlan(5, 14, 1, False)),
        # A validation each epoch would take more than a fifth: fewer epochs.
        ({"seconds": 100}, EpochPlan(2, 40, 2, False)),
        ({"seconds": 80}, EpochPlan(1, 70, 1, False)),
        # Fewer epochs than the time has, longer ones, because validations are dear: 400 s of 2000.
        ({"seconds": 2000, "validation": 100}, EpochPlan(4, 400, 4, False)),
        # Three iterations.
        ({"seconds": 13, "interval": 5}, EpochPlan(3, 1, 1, False)),
        # Not even the validation.
        ({"seconds": 5}, EpochPlan(1, 1, 1, False)),
        ({"seconds": 0, "validation": 0.0}, EpochPlan(1, 1, 1, False)),
        ({"seconds": 250, "validation": 0.0, "epochs": 2}, EpochPlan(2, 100, 2, True)),
        ({"seconds": 150, "validation": 0.0, "epochs": 2}, EpochPlan(2, 75, 2, False)),
    ],
)
def test_the_plan(values, expected):
    assert plan(**values) == expected


def test_a_plan_keeps_to_the_time_and_to_a_fifth_of_validations():
    times, tests, intervals = (30, 100, 777, 3600, 20_000), (0.5, 10, 90), (1, 2, 5)
    for seconds, validation, interval, epochs in itertools.product(times, tests, intervals, (3, 50)):
        found = plan(seconds, validation=validation, interval=interval, epochs=epochs)
        used = found.epochs * found.length + found.validations * validation
        assert 1 <= found.epochs <= epochs
        assert used <= max(seconds, validation + 1)
        if not found.is_complete:
            assert found.validations == 1 or found.validations * validation <= 0.2 * seconds
            # And it uses the time: what is left is less than an iteration for each epoch.
            assert seconds - used <= found.epochs or found.length == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"seconds": 100}, 3),  # 3 * (20 + 10) = 90
        ({"seconds": 60}, 2),
        ({"seconds": 59}, 2),  # a tenth of an epoch more is no reason to stop
        ({"seconds": 57}, 1),
        ({"seconds": -5}, 0),
        ({"seconds": 1000}, 9),
        ({"seconds": 81, "interval": 5}, 3),  # the epochs 3 and 4, and 5 with the validation
        ({"seconds": 29, "validation": 0.0, "most": 4}, 1),
        ({"seconds": 29, "epoch": 0.0, "validation": 0.0, "most": 4}, 4),
    ],
)
def test_further_epochs(values, expected):
    settings = {"epoch": 20.0, "validation": 10.0, "done": 2, "most": 9, "interval": 1, **values}
    assert count_further_epochs(**settings) == expected


def test_validations_count_the_last_epoch_once():
    for first, count, interval in itertools.product(range(12), range(1, 12), (1, 2, 5)):
        last = first + count
        validated = [epoch for epoch in range(first + 1, last + 1) if epoch % interval == 0 or epoch == last]
        assert count_validations(first, last, interval) == len(validated)
