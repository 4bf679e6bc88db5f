from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import nn

from pipeline.losses import GlobalBatchLoss
from tests.parallel import jobs
from tests.parallel.pair import Pair


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(4, 1, 8, 8, generator=generator)
    # the halves differ much in foreground, so the mean of their Dice losses is far from that of the whole
    label = (torch.rand(4, 1, 8, 8, generator=generator) < torch.tensor([0.9, 0.8, 0.1, 0.05]).view(4, 1, 1, 1)).float()
    return image, label


def test_steps_of_two_processes_are_those_of_one(pair: Pair) -> None:
    torch.manual_seed(3)
    network = jobs.TwoHeads()
    start = {name: value.clone() for name, value in network.state_dict().items()}
    image, label = make_batch()
    expected = jobs.train_steps(network, jobs.make_deep_loss(), image, label)
    first, second = pair.run(jobs.train_parts, start, image, label)
    for found in (first, second):
        torch.testing.assert_close(found["losses"], expected["losses"], rtol=1e-5, atol=1e-6)
        for name, value in expected["state"].items():
            torch.testing.assert_close(found["state"][name], value, rtol=1e-4, atol=1e-5, msg=name)
    halves = [jobs.make_deep_loss()(network(image[part]), label[part]).item() for part in (slice(2), slice(2, 4))]
    whole = jobs.make_deep_loss()(network(image), label).item()
    assert abs(sum(halves) / 2 - whole) > 1e-3, "else the test would prove nothing"


def test_alone_it_is_the_loss_itself() -> None:
    image, label = make_batch()
    assert GlobalBatchLoss(nn.MSELoss())(MetaTensor(image), label) == nn.MSELoss()(image, label)


def test_batches_of_different_shapes_are_refused_in_one_line(pair: Pair) -> None:
    (message, kind), (code, quiet) = pair.run(jobs.refuse_different_shapes)
    assert kind == "InputError"
    assert message.startswith(
        "the batches of the processes differ in shape, (1, 1, 4, 4), (1, 1, 4, 4) and (1, 1, 8, 8)"
    )
    assert (code, quiet) == (1, "SystemExit")


def test_labels_of_any_type_are_gathered(pair: Pair) -> None:
    for found in pair.run(jobs.gather_kinds):
        assert found == {"bool": [torch.bool, [True, False]], "byte": [torch.uint8, [0, 1]]}
