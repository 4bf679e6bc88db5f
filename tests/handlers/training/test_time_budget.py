"""TimeBudget: epochs, validations and the schedule end with the time."""

import json
import logging
import math

import pytest
import whole_training
from ignite.engine import Events
from tiny_training import read_losses

from pipeline.handlers import TimeBudget
from pipeline.handlers.training.time_budget import FILE, read_seconds
from pipeline.issues import InputError


class Clock:
    """A clock that only the iterations move on, 10 s each, 3 in an epoch, and the cases of a validation."""

    def __init__(self, case=0.0):
        self.now, self.case, self.rates, self.first_rates = 0.0, case, [], []

    def attach(self, engine):
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self.first_rates.append(read_rate(engine)))
        engine.add_event_handler(Events.ITERATION_STARTED, self.tick)

    def tick(self, engine):
        self.now += 10.0
        self.rates.append(read_rate(engine))

    def wait(self, seconds):
        self.now += seconds

    def slow_down(self, evaluator):
        inferer = evaluator.inferer

        def infer(*inputs):
            self.now += self.case
            return inferer(*inputs)

        evaluator.inferer = infer

    def monotonic(self):
        return self.now


def read_rate(engine):
    return engine.optimizer.param_groups[0]["lr"]


class StopAfter:
    """Stop a run after an epoch, as a signal would."""

    def __init__(self, epoch):
        self.epoch = epoch

    def attach(self, engine):
        engine.add_event_handler(Events.EPOCH_COMPLETED(once=self.epoch), lambda: engine.terminate())


def train(folder, monkeypatch, seconds, whole=True, case=0.0, stop=0, max_epochs=40, interval=5, **options):
    clock = Clock(case)
    monkeypatch.setattr("pipeline.handlers.training.time_budget.time", clock)
    after = [clock, *([StopAfter(stop)] if stop else [])]
    if whole:
        options |= {"budget_minutes": seconds / 60, "val_interval": interval, "patience": 1000}
    else:
        after.append(TimeBudget(folder, seconds))
    lengths = {"max_epochs": max_epochs, "schedule_length": max_epochs}
    trainer = whole_training.build(folder, after=after, interval=interval, **lengths, **options)
    clock.slow_down(trainer.evaluator)
    trainer.run()
    trainer.clock = clock
    return trainer


def cosine(share):
    """Return the learning rate at a share of the schedule, which is followed in 40 straight lines."""
    return pytest.approx(0.005 * (1 + math.cos(math.pi * share)), abs=1e-5)


def test_epochs_and_schedule_end_with_the_time(tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.INFO):
        trainer = train(tmp_path, monkeypatch, 200.0)
    # 20 iterations; epochs of 3 would leave two unused.
    assert (trainer.state.epoch, trainer.state.epoch_length, trainer.state.iteration) == (10, 2, 20)
    assert trainer.clock.now == 200.0
    rates = trainer.clock.rates
    assert rates[:2] == [0.01, 0.01]  # the speed is measured
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == cosine(0.95)
    assert trainer.clock.first_rates == rates[::2]  # what TensorBoard gets
    assert (
        "budget of 3 min: 7 epochs of 2 iterations (10 s each) and 2 validations fit; the learning rate " in caplog.text
    )
    # Validated and saved as the last epoch.
    assert trainer.checkpoint_handler.best_epoch in (5, 10)
    assert (tmp_path / "last_epoch=10.pt").exists()
    expected = {"seconds": 200.0, "is_over": True, "iteration": 10.0, "validation": 0.0}
    assert json.loads((tmp_path / FILE).read_text()) == expected
    record = whole_training.read_record(tmp_path)
    assert (record["status"], record["epochs"], record["max_epochs"]) == ("finished", 10, 40)
    budget = {"seconds": 200.0, "used_before": 0.0, "used": 200.0, "iterations": 2, "whole": False}
    assert record["budget"] == budget


def test_enough_time_changes_nothing(tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.INFO):
        train(tmp_path / "limited", monkeypatch, 1e6, max_epochs=4)
    assert "all 4 epochs fit" in caplog.text
    whole_training.build(tmp_path / "plain", interval=5).run()
    losses = [read_losses(tmp_path / name / "losses.txt") for name in ("limited", "plain")]
    assert losses[0] == losses[1]
    assert json.loads((tmp_path / "limited" / FILE).read_text())["is_over"] is False
    assert whole_training.read_record(tmp_path / "limited")["budget"]["whole"] is True
    assert "budget" not in whole_training.read_record(tmp_path / "plain")


def test_a_resumed_training_has_the_time_that_is_left(tmp_path, monkeypatch, caplog):
    train(tmp_path, monkeypatch, 200.0, stop=4)
    assert read_seconds(tmp_path) == 80.0
    with caplog.at_level(logging.INFO):
        trainer = train(tmp_path, monkeypatch, 200.0, resume=True)
    assert "budget of 3 min, of which 80 s are used: 5 epochs of 2 iterations" in caplog.text
    assert (trainer.state.epoch, trainer.state.iteration, trainer.clock.now) == (10, 20, 120.0)
    assert (trainer.clock.rates[0], trainer.clock.rates[-1]) == (cosine(0.4), cosine(0.95))
    assert read_seconds(tmp_path) == 200.0
    assert whole_training.read_record(tmp_path)["budget"]["used_before"] == 80.0


def test_a_budget_that_is_used_up_can_be_raised(tmp_path, monkeypatch, caplog):
    train(tmp_path, monkeypatch, 200.0)
    trainer = train(tmp_path, monkeypatch, 200.0, resume=True)
    assert (trainer.state.epoch, trainer.clock.now) == (10, 0.0)
    assert "the budget of 3 min is used up after 10 epochs: raise --budget_minutes to continue" in caplog.messages
    trainer = train(tmp_path, monkeypatch, 400.0, resume=True)
    assert trainer.clock.now == 200.0
    assert (trainer.clock.rates[0], trainer.clock.rates[-1]) == (cosine(0.5), cosine(0.975))


def test_validations_take_a_fifth_at_most(tmp_path, monkeypatch):
    trainer = train(tmp_path, monkeypatch, 400.0, case=20.0, interval=1)
    # One of two cases is tried, 20 s; the validation takes 40 s, so there can be one; all else is training.
    assert (trainer.state.epoch, trainer.state.iteration) == (1, 34)
    assert trainer.clock.now == 400.0
    assert (tmp_path / "model.pt").exists()


def test_validations_that_take_longer_than_their_first_case_are_planned_anew(tmp_path, monkeypatch, caplog):
    def run_slowly(evaluator):
        evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: clocks[0].wait(40.0))

    clocks = []
    monkeypatch.setattr(Clock, "slow_down", lambda self, evaluator: clocks.append(self) or run_slowly(evaluator))
    with caplog.at_level(logging.INFO):
        trainer = train(tmp_path, monkeypatch, 600.0, interval=1)
    text = " fit; the learning rate reaches its end with them"
    assert [line for line in caplog.messages if line.startswith("budget of 10 min")] == [
        "budget of 10 min: 20 epochs of 3 iterations (10 s each) and 20 validations" + text,
        # 3 iterations and 40 s; then 2 x 22 iterations and 80 s, so validations have a fifth of the time.
        "budget of 10 min, of which 70 s are used: 2 epochs of 22 iterations (10 s each) and 2 validations "
        "(about 40 s each)" + text,
    ]
    assert (trainer.state.epoch, trainer.state.epoch_length, trainer.clock.now) == (3, 23, 600.0)
    assert trainer.clock.rates == sorted(trainer.clock.rates, reverse=True)
    assert trainer.clock.rates[-1] == pytest.approx(0.0, abs=0.0001)


def test_a_slower_machine_ends_in_time_too(tmp_path, monkeypatch):
    clock_tick = Clock.tick

    def tick(self, engine):
        clock_tick(self, engine)
        self.now += 10.0 if engine.state.iteration > 8 else 0.0

    monkeypatch.setattr(Clock, "tick", tick)
    trainer = train(tmp_path, monkeypatch, 400.0)
    assert 360 <= trainer.clock.now <= 420
    assert trainer.clock.rates[-1] == pytest.approx(0.0, abs=0.0005)


@pytest.mark.parametrize("slower", [0.9, 1.03, 1.1])
def test_a_little_noise_leaves_no_time_unused(slower, tmp_path, monkeypatch):
    clock_tick = Clock.tick

    def tick(self, engine):
        clock_tick(self, engine)
        self.now += 10.0 * (slower - 1.0) if len(self.rates) > 8 else 0.0

    monkeypatch.setattr(Clock, "tick", tick)
    trainer = train(tmp_path, monkeypatch, 1000.0, max_epochs=400)
    assert 960 <= trainer.clock.now <= 1040
    assert trainer.clock.rates[-1] == pytest.approx(0.0, abs=0.0005)


@pytest.mark.parametrize(("case", "interval"), [(0.0, 5), (6.0, 1)])
def test_a_machine_that_becomes_faster_trains_no_more_than_was_wanted(case, interval, tmp_path, monkeypatch):
    clock_tick = Clock.tick

    def tick(self, engine):
        clock_tick(self, engine)
        self.now -= 9.0 if len(self.rates) > 8 else 0.0

    monkeypatch.setattr(Clock, "tick", tick)
    trainer = train(tmp_path, monkeypatch, 350.0, case=case, interval=interval, max_epochs=40)
    assert trainer.state.epoch <= 40
    assert len(trainer.clock.rates) <= 40 * 3  # as wanted; the time would be enough for 278
    assert trainer.clock.rates[-1] == pytest.approx(0.0, abs=0.001)


def test_a_budget_for_the_rest_of_a_training_goes_on_where_the_schedule_is(tmp_path, monkeypatch):
    first = train(tmp_path, monkeypatch, 1e6, stop=20)
    (tmp_path / FILE).unlink()  # as of a run without a budget
    second = train(tmp_path, monkeypatch, 100.0, resume=True)
    assert second.clock.rates[0] == pytest.approx(first.clock.rates[-1], rel=0.1)
    assert second.clock.rates == sorted(second.clock.rates, reverse=True)
    assert second.clock.now == 100.0


def test_the_first_process_sets_the_rates_of_all(tmp_path, monkeypatch):
    """Each process has a clock of its own; with rates of its own, it would end with weights of its own."""

    def take_that_of_the_first(value):
        return [0.5 if isinstance(value, float) else value]

    monkeypatch.setattr("pipeline.handlers.training.time_budget.collect", take_that_of_the_first)
    trainer = train(tmp_path, monkeypatch, 200.0, interval=100)
    # From the place that the first process is at, half of the schedule.
    assert max(trainer.clock.rates[4:]) <= 0.00501


def test_without_schedules_the_epochs_end_all_the_same(tmp_path, monkeypatch):
    trainer = train(tmp_path, monkeypatch, 50.0, whole=False, max_epochs=9)
    assert (trainer.state.epoch, trainer.state.iteration) == (5, 5)
    assert trainer.checkpoint_handler.best_epoch == 5
    assert json.loads((tmp_path / FILE).read_text())["is_over"] is True


def test_a_new_training_begins_at_zero(tmp_path, monkeypatch):
    (tmp_path / FILE).write_text('{"seconds": 1000}')
    assert train(tmp_path, monkeypatch, 60.0, whole=False).clock.now == 60.0


def test_at_least_one_iteration(tmp_path, monkeypatch):
    assert train(tmp_path, monkeypatch, 0.0, whole=False).state.iteration == 1
    assert read_seconds(tmp_path / "nowhere") == 0.0


def test_a_negative_time_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^budget_minutes must be a number from 0, got -1$"):
        TimeBudget(tmp_path, -60.0)
