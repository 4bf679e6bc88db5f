"""TensorBoard's thread ends with the run, however it ends."""

import gc
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from pipeline.handlers import SegmentationFigures, SummaryWriterEnd
from pipeline.issues import InputError


def count_writers() -> int:
    return sum(type(thread).__name__ == "_AsyncWriterThread" for thread in threading.enumerate())


def stop(error: BaseException) -> Callable[..., None]:
    def act(*_: Any) -> None:
        raise error

    return act


@pytest.mark.parametrize(
    "error", [None, OSError("broken"), InputError("refused"), SystemExit(143), KeyboardInterrupt()]
)
@pytest.mark.parametrize("event", [Events.STARTED, Events.ITERATION_COMPLETED])
def test_the_thread_ends(error: BaseException | None, event: Events, tmp_path: Path) -> None:
    before = count_writers()
    writer = SummaryWriter(str(tmp_path))
    engine = Engine(lambda engine, batch: writer.add_scalar("loss", 1.0, 1))
    SummaryWriterEnd(writer).attach(engine)
    if error is not None:
        engine.add_event_handler(event, stop(error))
    assert count_writers() == before + 1
    try:
        engine.run([0])
    except BaseException as raised:
        assert raised is error  # noqa: PT017
    assert count_writers() == before


def test_a_second_run_writes_again(tmp_path: Path) -> None:
    before = count_writers()
    writer = SummaryWriter(str(tmp_path))
    engine = Engine(lambda engine, batch: writer.add_scalar("loss", 1.0, 1))
    SummaryWriterEnd(writer).attach(engine)
    for _ in range(2):
        engine.run([0])
    assert count_writers() == before
    assert len(list(tmp_path.glob("events.*"))) == 2


def test_a_writer_that_fails_hides_no_error(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        close = stop(OSError("no space left"))

    engine = Engine(stop(InputError("the reason")))
    SummaryWriterEnd(Broken()).attach(engine)
    with pytest.raises(InputError, match="the reason"):
        engine.run([0])
    assert "the TensorBoard events of this run are incomplete: no space left" in caplog.text
    assert [record.levelno for record in caplog.records if "TensorBoard" in record.getMessage()] == [logging.WARNING]


def test_figures_close_the_writer_that_they_opened(tmp_path: Path) -> None:
    before = count_writers()
    case = {name: torch.ones(1, 4, 4) for name in ("image", "label", "pred")}
    engine = Engine(lambda engine, batch: [case])
    SegmentationFigures(tmp_path).attach(engine)
    engine.run([[{"case_id": "a"}]])
    assert count_writers() == before + 1
    del engine
    gc.collect()
    assert count_writers() == before
