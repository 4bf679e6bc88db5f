"""What a run shows: a line per epoch, a line a minute, and a bar where somebody watches."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from ignite.engine import Engine, Events
from tqdm import tqdm

from pipeline.handlers import RunProgress, TrainingProgress, on_terminal
from pipeline.handlers.logs import progress_display

METRIC = "dice_patient"
CONTROL = re.compile(r"[\r\x1b]")

Watch, Read = Callable[[], "Terminal"], Callable[[], list[str]]


class Clock:
    """A clock that the tests move."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A terminal that keeps what is drawn."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for name in ("progress_display", "training_progress", "run_progress"):
        monkeypatch.setattr(f"pipeline.handlers.logs.{name}.time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Put a terminal in the place of stderr, where pytest puts its own before each test."""

    def watch() -> Terminal:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(progress_display, "tqdm", partial(tqdm, mininterval=0.0, miniters=1))
        return terminal

    return watch


@pytest.fixture
def read(caplog: pytest.LogCaptureFixture) -> Read:
    """Return the lines that were logged."""
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records if record.name == progress_display.__name__]


class Training:
    """A training whose iterations take a given time, and whose validations give given scores."""

    def __init__(self, clock: Clock, scores: dict[int, float], seconds: float, validation: float = 4.0) -> None:
        self.seconds, self.iterations = seconds, 0
        self.trainer = Engine(self._step)
        self.evaluator = Engine(lambda engine, batch: None)
        state: Any = self.evaluator.state
        state.best_metric, state.best_metric_epoch = -1, -1
        self.clock, self.scores, self.validation = clock, scores, validation
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._validate)
        self.evaluator.add_event_handler(Events.COMPLETED, self._score)
        TrainingProgress(self.evaluator, METRIC).attach(self.trainer)

    def _step(self, engine: Engine, batch: Any) -> list[dict[str, float]]:
        self.clock.now += self.seconds
        self.iterations += 1
        return [{"loss": 1 / self.iterations}]

    def _validate(self) -> None:
        if self.trainer.state.epoch in self.scores:
            self.evaluator.run([0, 0])

    def _score(self) -> None:
        self.clock.now += self.validation
        epoch = self.trainer.state.epoch
        state: Any = self.evaluator.state
        state.metrics = {METRIC: self.scores[epoch]}
        if state.best_metric_epoch == -1 or self.scores[epoch] > state.best_metric:
            state.best_metric, state.best_metric_epoch = self.scores[epoch], epoch

    def run(self, epochs: int, iterations: int = 2) -> None:
        self.trainer.run([0] * iterations, max_epochs=epochs)


def test_a_line_per_epoch(clock: Clock, read: Read) -> None:
    Training(clock, {2: 0.861, 4: 0.5}, seconds=150.0, validation=60.0).run(4)
    assert read() == [
        "training: epochs 1 to 4, 2 iterations each",
        # After 150 s, 1 of 8 iterations is done.
        "epoch 1/4  1 of 2 iterations  loss 1  2 min left  18 min for the run",
        "epoch 1/4  loss 0.75  5 min, 15 min left",
        "epoch 2/4  1 of 2 iterations  loss 0.333  2 min left  12 min for the run",
        "validation  1 of 2 cases  0.0 s left",
        "epoch 2/4  loss 0.292  dice_patient 0.861 (best)  6 min, 11 min left",
        "epoch 3/4  1 of 2 iterations  loss 0.2  2 min left  8 min for the run",
        "epoch 3/4  loss 0.183  5 min, 5 min left",
        "epoch 4/4  1 of 2 iterations  loss 0.143  2 min left  3 min for the run",
        "validation  1 of 2 cases  0.0 s left",
        "epoch 4/4  loss 0.134  dice_patient 0.500 (best 0.861)  6 min",
        "4 epochs in 22 min; best dice_patient 0.861 in epoch 2",
    ]


def test_of_short_epochs_a_line_a_minute_and_the_important_ones(clock: Clock, read: Read) -> None:
    Training(clock, {5: 0.5, 6: 0.6, 7: 0.4}, seconds=2.0).run(40)
    epochs = [int(match[1]) for line in read() if (match := re.match(r"epoch (\d+)/40  loss", line))]
    # The first, the best ones (5 and 6), the first after each minute of silence, and the last.
    assert epochs == [1, 5, 6, 20, 35, 40]


def test_a_terminal_gets_every_line_and_a_bar(clock: Clock, watch: Watch, read: Read) -> None:
    terminal = watch()
    logging.root.addHandler(handler := logging.StreamHandler(terminal))
    try:
        Training(clock, {2: 0.861}, seconds=2.0).run(4)
        assert handler in logging.root.handlers, "as before the run"
    finally:
        logging.root.removeHandler(handler)
    lines = [line for line in read() if line.startswith("epoch")]
    assert [line.split()[1] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]
    drawn = terminal.getvalue()
    assert "epoch 2/4  50%|" in drawn, drawn
    assert re.search(r"1/2 iterations, loss 0\.333, 10 s for the run, \S+ left", drawn), drawn
    assert "validation " in drawn
    for line in lines:
        assert re.search(rf"(^|[\r\n]) *\r?{re.escape(line)}\n", drawn), "on a row of its own"


def test_without_a_terminal_nothing_is_drawn(clock: Clock, capfd: pytest.CaptureFixture[str], read: Read) -> None:
    Training(clock, {1: 0.5}, seconds=30.0).run(3)
    assert not on_terminal()
    assert read()
    assert not any(CONTROL.search(text) for text in capfd.readouterr())


def test_a_resumed_run_estimates_from_its_own_epochs(clock: Clock, read: Read) -> None:
    training = Training(clock, {}, seconds=10.0)
    training.trainer.load_state_dict({"epoch": 5, "max_epochs": 8, "epoch_length": 2})
    training.trainer.run([0, 0])
    lines = read()
    assert lines[0] == "training: epochs 6 to 8, 2 iterations each"
    assert lines[1] == "epoch 6/8  loss 0.75  20 s, 40 s left"
    assert lines[-1] == "3 epochs in 60 s"


def test_an_interrupted_run_gives_the_terminal_back(clock: Clock, watch: Watch) -> None:
    terminal = watch()
    logging.root.addHandler(handler := logging.StreamHandler(terminal))
    training = Training(clock, {}, seconds=1.0)

    def stop() -> None:
        raise SystemExit(143)

    training.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), stop)
    try:
        with pytest.raises(SystemExit):
            training.run(2)
        assert handler in logging.root.handlers
    finally:
        logging.root.removeHandler(handler)
    assert terminal.getvalue().endswith("\r"), "the bar is gone"


def test_only_the_first_process_speaks(clock: Clock, watch: Watch, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    terminal = watch()
    Training(clock, {1: 0.5}, seconds=100.0).run(2)
    assert (read(), terminal.getvalue()) == ([], "")


def evaluate(clock: Clock, seconds: float, cases: int = 4) -> None:
    def step(engine: Engine, batch: Any) -> None:
        clock.now += seconds

    engine = Engine(step)

    def score() -> None:
        engine.state.metrics = {"dice": 0.86123, "n_missed": 3.0, "surface": float("nan")}

    engine.add_event_handler(Events.EPOCH_COMPLETED, score)
    RunProgress().attach(engine)
    engine.run([0] * cases)


def test_an_evaluation_shows_the_time_left_and_its_scores(clock: Clock, read: Read) -> None:
    evaluate(clock, 40.0)
    assert read() == [
        "2 of 4 cases  80 s left",
        "4 cases in 3 min, 40 s each: dice 0.8612, n_missed 3, surface nan",
    ]


def test_an_evaluation_on_a_terminal(clock: Clock, watch: Watch, read: Read) -> None:
    terminal = watch()
    evaluate(clock, 40.0)
    assert read() == ["4 cases in 3 min, 40 s each: dice 0.8612, n_missed 3, surface nan"]
    assert re.search(r"50%\|.*\| 2/4 cases, \S+ left", terminal.getvalue())


@pytest.mark.parametrize("terminal", [False, True])
def test_an_epoch_that_is_planned_anew(terminal: bool, clock: Clock, watch: Watch, read: Read) -> None:
    """A time budget finds its length within the first epoch; no line counts beyond it."""
    screen = watch() if terminal else None
    display = progress_display.ProgressDisplay()
    display.start()
    display.begin("epoch 1/7", 53, "iterations")
    display.plan("epoch 1/2", 65)
    clock.now += 61
    display.advance(58)
    display.close()
    if screen is None:
        assert read() == ["epoch 1/2  58 of 65 iterations  7.4 s left"]
    else:
        drawn = CONTROL.sub("", screen.getvalue())
        assert "epoch 1/2 " in drawn
        assert "58/65 iterations" in drawn
