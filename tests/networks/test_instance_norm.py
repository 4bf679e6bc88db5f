"""InstanceNorm with other kernels: equal output, gradients, state dict, exports, and the layout stays."""

import copy
import io

import pytest
import torch
from monai.networks.nets import UNETR, BasicUNet, DynUNet
from torch import nn

from pipeline.networks import use_fast_instance_norm
from pipeline.networks.instance_norm import FastInstanceNorm2d, FastInstanceNorm3d

LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}
NETWORKS = {
    "BasicUNet": lambda: BasicUNet(2, 3, 1, features=(8, 8, 16, 16, 32, 8)),
    "BasicUNet-3d": lambda: BasicUNet(3, 3, 1, features=(4, 4, 8, 8, 16, 4), norm="instance"),
    "UNETR": lambda: UNETR(3, 2, (32, 32, 32), feature_size=4, hidden_size=8, mlp_dim=8, num_heads=2),
    "DynUNet": lambda: DynUNet(2, 3, 2, kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2]),
}


def make_layer(dims: int, *, affine: bool = True, **options: object) -> nn.Module:
    layer = (nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d)(6, affine=affine, **options)
    if affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return layer


def make_batch(dims: int, *, channels_last: bool) -> torch.Tensor:
    batch = 3 + 2 * torch.randn(3, 6, 9, 8, *[5] * (dims - 2))
    return batch.contiguous(memory_format=LAYOUTS[dims]) if channels_last else batch


def run(layer: nn.Module, batch: torch.Tensor, towards: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the output and the gradients of the batch and of the parameters."""
    inputs = batch.clone().requires_grad_()
    output = layer(inputs)
    return output.detach(), list(torch.autograd.grad((output * towards).sum(), [inputs, *layer.parameters()]))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_output_and_gradients_are_those_of_torch(dims: int, affine: bool, channels_last: bool) -> None:
    torch.manual_seed(0)
    stock, batch = make_layer(dims, affine=affine, eps=1e-3), make_batch(dims, channels_last=channels_last)
    fast = use_fast_instance_norm(copy.deepcopy(stock))
    assert type(fast) is (FastInstanceNorm2d if dims == 2 else FastInstanceNorm3d)
    towards = torch.randn_like(batch)
    expected, result = run(stock, batch, towards), run(fast, batch, towards)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(fast.eval()(batch), expected[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(fast(batch[1]), expected[0][1], atol=1e-5, rtol=1e-5)  # without a batch axis


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(("mean", "spread"), [(10.0, 1.0), (10.0, 0.1), (100.0, 0.1), (1000.0, 50.0)])
def test_flat_channels_far_from_zero(dims: int, grad: bool, mean: float, spread: float) -> None:
    torch.manual_seed(0)
    batch = mean + spread * torch.randn(2, 6, 32, 32, *[16] * (dims - 2))
    batch = batch.contiguous(memory_format=LAYOUTS[dims])
    exact = make_layer(dims, affine=False).double()(batch.double()).float()
    fast = use_fast_instance_norm(make_layer(dims, affine=False))(batch.requires_grad_(grad))
    # A value of the batch itself is rounded by so much, in standard deviations.
    rounding = mean / spread * torch.finfo(torch.float32).eps
    assert (fast - exact).abs().max() < 2e-4 + 100 * rounding


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("grad", [True, False])
def test_the_layout_stays(dims: int, grad: bool) -> None:
    batch = make_batch(dims, channels_last=True).requires_grad_(grad)
    stock = make_layer(dims)
    assert not stock(batch).is_contiguous(memory_format=LAYOUTS[dims]), "torch keeps it too now: this is not needed"
    assert use_fast_instance_norm(stock)(batch).is_contiguous(memory_format=LAYOUTS[dims])


def test_bfloat16_is_as_close_as_torchs() -> None:
    torch.manual_seed(0)
    stock, batch = make_layer(2), make_batch(2, channels_last=True)
    exact = stock(batch)
    fast = use_fast_instance_norm(copy.deepcopy(stock))
    for inputs in (batch.bfloat16(), batch.bfloat16().requires_grad_()):
        output = fast(inputs)
        assert output.dtype is torch.bfloat16
        assert (output - exact).abs().max() <= 1.1 * (stock(inputs) - exact).abs().max()


def test_one_voxel_has_no_variance() -> None:
    for layer in (make_layer(2), use_fast_instance_norm(make_layer(2))):
        with pytest.raises(ValueError, match="more than 1 spatial element"):
            layer(torch.ones(2, 6, 1, 1))


def test_layers_with_running_statistics_stay() -> None:
    network = use_fast_instance_norm(nn.Sequential(make_layer(2, track_running_stats=True), nn.InstanceNorm1d(4)))
    assert [type(layer) for layer in network] == [nn.InstanceNorm2d, nn.InstanceNorm1d]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_monai(name: str) -> None:
    torch.manual_seed(0)
    stock = NETWORKS[name]()
    fast = use_fast_instance_norm(copy.deepcopy(stock))
    assert not [layer for layer in fast.modules() if type(layer) in (nn.InstanceNorm2d, nn.InstanceNorm3d)]
    assert list(fast.state_dict()) == list(stock.state_dict())
    fast.load_state_dict(stock.state_dict())
    dims = 3 if name in ("UNETR", "BasicUNet-3d") else 2
    image = torch.randn(1, 3, *[32] * dims, dtype=torch.float64)
    gradients = []
    for network in (stock.double(), fast.double().to(memory_format=LAYOUTS[dims])):
        network.train()(image).square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=1e-6)


def test_exports_compute_the_same(tmp_path) -> None:
    torch.manual_seed(0)
    network = use_fast_instance_norm(NETWORKS["BasicUNet"]()).eval()
    image = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    expected = network(image).detach()
    for module in (torch.jit.script(network), torch.jit.trace(network, image[:1])):
        stored = io.BytesIO()
        torch.jit.save(module, stored)
        stored.seek(0)
        torch.testing.assert_close(torch.jit.load(stored)(image).detach(), expected, atol=1e-4, rtol=1e-4)
    exported = torch.export.export(network, (image,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.testing.assert_close(exported.module()(image[:1]).detach(), expected[:1], atol=1e-4, rtol=1e-4)
