from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline import parallel
from tests.parallel import jobs
from tests.parallel.pair import Pair


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"eps": 0.1, "momentum": 0.3}],
    ids=str,
)
@pytest.mark.parametrize("sizes", [[2, 2], [3, 1]], ids=["equal", "unequal"])
def test_two_halves_are_normalised_as_the_whole(pair: Pair, options: dict[str, Any], sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [3 + 2 * torch.randn(4, 3, 5, 4, generator=generator) for _ in range(3)]
    weights = torch.rand(4, 3, 5, 4, generator=generator)
    expected = jobs.normalise(jobs.make_norm(options), batches, weights)
    first, second = pair.run(jobs.normalise_parts, options, batches, weights, sizes)
    for number in range(3):
        for kind in ("outputs", "gradients"):
            joined = torch.cat([first[kind][number], second[kind][number]])
            torch.testing.assert_close(joined, expected[kind][number], rtol=1e-4, atol=1e-4)
    for name, gradient in expected["parameters"].items():
        # DistributedDataParallel would average them: here they are the parts of a sum
        torch.testing.assert_close(
            first["parameters"][name] + second["parameters"][name], gradient, rtol=1e-4, atol=1e-4
        )
    assert list(first["state"]) == list(expected["state"])
    for name, value in expected["state"].items():
        torch.testing.assert_close(first["state"][name], value)
        assert torch.equal(first["state"][name], second["state"][name]), "equal to the last bit"


def test_one_value_each_is_enough_but_none_is_not(pair: Pair) -> None:
    for message in pair.run(jobs.normalise_one_value):
        assert message.startswith("expected more than 1 value per channel")


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_one_process_computes_what_batch_norm_does(kind: type[nn.Module]) -> None:
    plain = kind(2)
    twin = parallel.synchronise_batch_norm(kind(2), "cpu")
    shape = (3, 2, *[4, 5, 6][: {"1": 1, "2": 2, "3": 3}[kind.__name__[-2]]])
    batch = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(twin(batch), plain(batch))
    torch.testing.assert_close(twin.state_dict(), plain.state_dict())
    torch.testing.assert_close(twin.eval()(batch), plain.eval()(batch))


def test_gradients_are_those_of_the_formula() -> None:
    norm = parallel.synchronise_batch_norm(nn.BatchNorm1d(2).double(), "cpu")
    batch = torch.rand(4, 2, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(norm, batch)


def test_parameters_and_buffers_stay_the_same_objects() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    before = [*network.parameters(), *network.buffers()]
    assert parallel.synchronise_batch_norm(network, "cpu") is network
    after = [*network.parameters(), *network.buffers()]
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_frozen_and_unknown_layers_stay(pair: Pair) -> None:
    class Scaled(nn.BatchNorm2d):
        pass

    network = nn.Sequential(nn.BatchNorm2d(2).eval(), Scaled(2), nn.InstanceNorm2d(2), nn.BatchNorm2d(2))
    parallel.synchronise_batch_norm(network, "cpu")
    assert [type(layer).__name__ for layer in network] == ["BatchNorm2d", "Scaled", "InstanceNorm2d", "GlooBatchNorm"]


def test_a_layer_frozen_later_uses_its_running_statistics() -> None:
    network = parallel.synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(1)), "cpu")
    network[0].eval()
    batch = torch.full((2, 1, 2, 2), 3.0)
    torch.testing.assert_close(network(batch), batch, rtol=1e-4, atol=1e-4)
    assert network[0].num_batches_tracked == 0


def test_on_gpus_it_is_torchs_own() -> None:
    network = parallel.synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1).eval()), "cuda:0")
    assert [type(layer) for layer in network] == [nn.SyncBatchNorm, nn.BatchNorm2d]
