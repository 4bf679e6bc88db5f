import pytest
from ignite.engine import Engine

from pipeline.handlers.run.exits import keep_one_line
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
