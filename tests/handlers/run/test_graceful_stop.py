"""GracefulStop: the iteration is finished, then the run ends; tests of real processes are in tests/fault."""

import os
import signal
import threading

import pytest
from ignite.engine import Engine, Events

from pipeline.handlers import GracefulStop


def build(step):
    engine = Engine(step)
    handler = GracefulStop()
    handler.attach(engine)
    return engine, handler


def send_in(iteration, number=signal.SIGTERM):
    def step(engine, batch):
        if engine.state.iteration == iteration:
            os.kill(os.getpid(), number)
        return "done"

    return step


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_stops_after_the_iteration(number, code, caplog, capfd):
    former = signal.getsignal(number)
    engine, _ = build(send_in(3, number))
    with pytest.raises(SystemExit) as caught:
        engine.run([0, 0], max_epochs=5)
    assert caught.value.code == code
    assert (engine.state.iteration, engine.state.output) == (3, "done")
    assert signal.getsignal(number) is former
    assert "after 1 complete epochs; continue with --resume true" in caplog.text
    assert "stopping after this iteration or validation" in capfd.readouterr().err


def test_in_the_first_epoch_there_is_nothing_to_resume(caplog):
    with pytest.raises(SystemExit):
        build(send_in(1))[0].run([0, 0])
    assert "nothing was saved yet, start again" in caplog.text


def test_what_an_epoch_ends_with_is_finished_first():
    engine, _ = build(lambda engine, batch: None)
    order = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: os.kill(os.getpid(), signal.SIGTERM))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: order.append("checkpoint"))
    with pytest.raises(SystemExit):
        engine.run([0, 0], max_epochs=2)
    assert (order, engine.state.iteration) == (["checkpoint"], 2)


def test_an_epoch_whose_last_iteration_got_the_signal_is_saved_before_it_counts(caplog):
    engine, _ = build(send_in(2))
    order = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: order.append("checkpoint"))
    with pytest.raises(SystemExit):
        engine.run([0, 0], max_epochs=2)
    assert (order, engine.state.iteration) == (["checkpoint"], 2)
    assert "after 1 complete epochs; continue with --resume true" in caplog.text


def test_a_run_that_is_done_anyway_ends_well():
    former = signal.getsignal(signal.SIGTERM)
    engine, _ = build(lambda engine, batch: None)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: os.kill(os.getpid(), signal.SIGTERM))
    engine.run([0])
    assert signal.getsignal(signal.SIGTERM) is former


def test_an_exception_gives_the_signals_back():
    def fail(engine, batch):
        raise ValueError("broken")

    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="broken"):
        build(fail)[0].run([0])
    assert signal.getsignal(signal.SIGTERM) is former


def test_a_worker_that_died_of_the_signal_is_not_an_error():
    def step(engine, batch):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("DataLoader worker (pid 3) is killed by signal: Terminated.")

    with pytest.raises(SystemExit) as caught:
        build(step)[0].run([0])
    assert caught.value.code == 143


def test_a_worker_leaves_the_signal_to_the_main_process():
    engine, handler = build(lambda engine, batch: None)

    def receive_in_child():
        handler._pid = -1
        handler._receive(signal.SIGINT, None)

    engine.add_event_handler(Events.ITERATION_COMPLETED, receive_in_child)
    engine.run([0, 0])
    assert engine.state.iteration == 2


def test_a_second_signal_ends_at_once(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    engine, handler = build(lambda engine, batch: [handler._receive(signal.SIGINT, None) for _ in range(2)])
    with pytest.raises(SystemExit):
        engine.run([0, 0])
    assert codes == [130]


def test_another_thread_is_told(caplog):
    thread = threading.Thread(target=lambda: build(lambda engine, batch: None)[0].run([0]))
    thread.start()
    thread.join()
    assert "not the main thread" in caplog.text
