import logging

import pytest
from ignite.engine import Engine
from monai.handlers import StatsHandler
from torch.utils.data import DataLoader, Dataset

from pipeline.handlers.run.exits import find_line, keep_one_line, on_exception
from pipeline.handlers.run.one_line_errors import print_error
from pipeline.issues import InputError
from pipeline.networks import UNet2015
from pipeline.transforms import EncodeMask


def run(process):
    engine = Engine(process)
    engine.logger.disabled = True
    keep_one_line(engine)
    engine.run([1])


def test_a_network_that_refuses_a_size_ends_the_run_in_one_line():
    import torch

    network = UNet2015(channels=(2, 4, 8, 16, 32))
    with pytest.raises(InputError, match="40") as caught:
        run(lambda engine, batch: network(torch.zeros(1, 1, 40, 40)))
    assert "\n" not in str(caught.value)


def test_the_message_is_found_under_what_monai_wraps_it_in():
    import torch
    from monai.transforms import Compose

    chain = Compose([EncodeMask([0, 255])])
    with pytest.raises(InputError, match=r"^mask has the values \[0, 7\], expected only \[0, 255\]$"):
        run(lambda engine, batch: chain(torch.tensor([[[0.0, 7.0]]])))


def test_a_mistake_elsewhere_keeps_its_trace():
    def fail(engine, batch):
        raise ValueError("not ours")

    with pytest.raises(ValueError, match="not ours"):
        run(fail)

    def divide(engine, batch):
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        run(divide)


def test_a_message_that_was_handled_on_the_way_does_not_hide_the_error():
    import torch

    def answer_better(engine, batch):
        try:
            EncodeMask([0, 255])(torch.tensor([[[0.0, 7.0]]]))
        except ValueError:
            raise InputError("the case a.png has a wrong mask") from None

    with pytest.raises(InputError, match=r"the case a\.png has a wrong mask"):
        run(answer_better)

    def stumble(engine, batch):
        try:
            EncodeMask([0, 255])(torch.tensor([[[0.0, 7.0]]]))
        except ValueError:
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        run(stumble)


class Wrong(Dataset):
    """Fails in the way that it is told."""

    def __init__(self, refuse):
        self.refuse = refuse

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            self.refuse()
        except Exception as error:
            raise RuntimeError("applying transform <a.b.EncodeMaskd object at 0x1>") from error


def refuse_input():
    raise InputError("the case a has no mask")


def refuse_mask():
    import torch

    EncodeMask([0, 255])(torch.tensor([[[0.0, 7.0]]]))


def refuse_elsewhere():
    raise ValueError("not ours")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("refuse", "line"),
    [
        (refuse_input, "the case a has no mask"),
        (refuse_mask, "mask has the values [0, 7], expected only [0, 255]"),
        (refuse_elsewhere, None),
    ],
)
def test_the_line_is_found_whoever_loads_the_case(refuse, line, workers):
    with pytest.raises(RuntimeError) as caught:
        next(iter(DataLoader(Wrong(refuse), num_workers=workers)))
    found = find_line(caught.value)
    assert (found and str(found)) == line


def test_no_trace_is_logged_and_every_clean_up_runs(caplog):
    def refuse(engine, batch):
        raise InputError("the case a has no mask")

    engine, seen = Engine(refuse), []
    StatsHandler(name="stats").attach(engine)
    keep_one_line(engine)
    on_exception(engine, lambda engine, error: seen.append(str(error)))
    with caplog.at_level(logging.INFO), pytest.raises(InputError, match="the case a has no mask"):
        engine.run([1])
    assert seen == ["the case a has no mask"], "once, although ignite reports it for the iteration and for the run"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]


def test_a_command_prints_only_the_line_of_an_error_that_monai_has_wrapped(capsys):
    try:
        try:
            raise InputError("no such folder: data")
        except InputError as inner:
            raise RuntimeError("Failed to instantiate component 'pipeline.datasets.load_datalist'") from inner
    except RuntimeError as error:
        print_error(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "no such folder: data\n"


def test_a_mistake_has_one_trace_its_own(capsys):
    def fail():
        raise KeyError("a mistake")

    try:
        try:
            fail()
        except KeyError as inner:
            raise RuntimeError("Failed to evaluate ConfigExpression: run") from inner
    except RuntimeError as error:
        print_error(type(error), error, error.__traceback__)
    printed = capsys.readouterr().err
    assert printed.count("Traceback (most recent call last)") == 1
    assert "in fail" in printed
    assert printed.endswith("KeyError: 'a mistake'; the trace above shows where\n")
