"""BatchNorm in several processes: torch's on GPUs, refused on the CPU; and the test double of `tests.parallel.pair`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pipeline import parallel
from pipeline.issues import InputError
from tests.parallel import gloo_batch_norm, jobs
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


def test_gradients_of_the_double_are_those_of_the_formula() -> None:
    norm = gloo_batch_norm.synchronise(nn.BatchNorm1d(2).double(), "cpu")
    batch = torch.rand(4, 2, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(norm, batch)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_on_the_cpu_a_batch_norm_that_trains_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(InputError, match=r"several processes on the CPU cannot train this network: .*; start one") as e:
        parallel.synchronise_batch_norm(nn.Sequential(nn.Conv2d(1, 2, 1), kind(2)), "cpu")
    assert "\n" not in str(e.value)


class Scaled(nn.BatchNorm2d):
    """A subclass, whose computation is unknown."""


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_frozen_and_unknown_layers_stay(device: str) -> None:
    network = nn.Sequential(nn.BatchNorm2d(2).eval(), Scaled(2), nn.InstanceNorm2d(2))
    assert parallel.synchronise_batch_norm(network, device) is network
    assert [type(layer) for layer in network] == [nn.BatchNorm2d, Scaled, nn.InstanceNorm2d]


def test_on_gpus_it_is_torchs_with_the_same_parameters_and_buffers() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Sequential(nn.BatchNorm3d(1)), nn.BatchNorm2d(1).eval())
    before = [*network.parameters(), *network.buffers()]
    parallel.synchronise_batch_norm(network, "cuda:0")
    assert [type(layer) for layer in network] == [nn.SyncBatchNorm, nn.Sequential, nn.BatchNorm2d]
    assert type(network[1][0]) is nn.SyncBatchNorm
    after = [*network.parameters(), *network.buffers()]
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_two_processes_of_torchrun_are_refused_on_the_cpu(pair: Pair) -> None:
    for message in pair.run(jobs.wrap_without_double):
        assert message.startswith("several processes on the CPU cannot train this network")
