"""A worker that dies names no case; the line does."""

import os
import re
import signal

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset

from pipeline.handlers.run.exits import keep_one_line
from pipeline.issues import InputError

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

FATAL = "case_5"


def die_at_one(number):
    def load(item):
        if item["case_id"] == FATAL:
            os.kill(os.getpid(), number) if number else os._exit(3)
        return item

    return load


def build(number, **options):
    cases = [{"case_id": f"case_{k}", "image": torch.zeros(1)} for k in range(9)]
    engine = Engine(lambda engine, batch: batch["case_id"])
    engine.logger.disabled = True
    keep_one_line(engine)
    return engine, DataLoader(Dataset(cases, die_at_one(number)), multiprocessing_context="fork", **options)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, 0], ids=["killed", "crashed", "ended"])
@pytest.mark.parametrize(("size", "shuffle"), [(1, False), (2, True)])
def test_the_cases_that_a_lost_worker_was_loading(number, size, shuffle):
    engine, loader = build(number, num_workers=2, batch_size=size, shuffle=shuffle)
    with pytest.raises(InputError) as caught:
        engine.run(loader, max_epochs=2)
    match = re.match(r"(?:a )?worker .*of the loader .* \(cases? (.*?); epoch 1, iteration \d\)", str(caught.value))
    assert match, caught.value
    named = match[1].split(", ")
    assert FATAL in named
    assert len(named) <= 2 * size  # each worker has two batches to load


def read_order(record):
    """Return the order of the cases in two epochs, read by an engine."""
    torch.manual_seed(0)
    _, loader = build(0, num_workers=2, batch_size=1, shuffle=True)
    loader.dataset.transform = lambda item: item
    order = []
    engine = Engine(lambda engine, batch: order.extend(batch["case_id"]))
    if record:
        keep_one_line(engine)
    engine.run(loader, max_epochs=2)
    return order


def test_the_order_of_the_cases_stays():
    assert read_order(record=True) == read_order(record=False)
    assert len(set(read_order(record=True)[:9])) == 9
