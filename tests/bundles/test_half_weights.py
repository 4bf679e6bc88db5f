"""Weights in half precision: half the size, nearly the same outputs, and no value lost."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet

from tests.bundles.half_weights import halve


def test_network_loads_them_and_computes_nearly_the_same() -> None:
    torch.manual_seed(0)
    network = BasicUNet(2, 1, 1, features=(8, 8, 8, 8, 8, 8), norm="batch")
    image = torch.randn(2, 1, 32, 32)
    network(image)  # gives the statistics of the normalisation values of their own
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        expected = network.eval()(image)
        network.load_state_dict(halve(weights))
        found = network(image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)
    assert not torch.equal(found, expected), "nothing was rounded"


def test_only_kernels_are_rounded() -> None:
    halves = halve(BasicUNet(2, 1, 1, features=(8, 8, 8, 8, 8, 8), norm="batch").state_dict())
    assert {tensor.dtype for tensor in halves.values() if tensor.ndim > 1} == {torch.float16}
    assert torch.float16 not in {tensor.dtype for tensor in halves.values() if tensor.ndim < 2}
    # Statistics of a normalisation may be large.
    assert halve({"running_var": torch.tensor([1e6])})["running_var"] == 1e6


def test_value_beyond_the_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"conv\.weight holds values that float16 cannot"):
        halve({"conv.weight": torch.full((1, 1), 1e6)})
