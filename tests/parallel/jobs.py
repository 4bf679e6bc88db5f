"""What the two processes of a test compute; the tests compare it with one process."""

from __future__ import annotations

from typing import Any

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import nn

from pipeline import parallel
from pipeline.issues import InputError
from pipeline.losses import GlobalBatchLoss
from pipeline.parallel import wrapped
from tests.parallel import gloo_batch_norm


def take_part(tensor: torch.Tensor, sizes: list[int] | None = None) -> torch.Tensor:
    """Take this process's part of a batch."""
    parts = tensor.split(sizes) if sizes else tensor.chunk(2)
    return parts[torch.distributed.get_rank()]


def make_norm(options: dict[str, Any], features: int = 3) -> nn.Module:
    norm = nn.BatchNorm2d(features, **options)
    if norm.affine:
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(0.5, 2, features))
            norm.bias.copy_(torch.linspace(-1, 1, features))
    return norm


def normalise(norm: nn.Module, batches: list[torch.Tensor], weights: torch.Tensor) -> dict[str, Any]:
    """Run a norm on batches; ``weights`` make of its output a scalar whose gradients are not trivial."""
    inputs = [batch.clone().requires_grad_() for batch in batches]
    outputs = [norm(batch) for batch in inputs]
    total = sum((output.square() * weights).sum() for output in outputs)
    total.backward()
    return {
        "outputs": [output.detach() for output in outputs],
        "gradients": [batch.grad for batch in inputs],
        "parameters": {name: parameter.grad for name, parameter in norm.named_parameters()},
        "state": norm.state_dict(),
    }


def normalise_parts(
    options: dict[str, Any], batches: list[torch.Tensor], weights: torch.Tensor, sizes: list[int]
) -> dict[str, Any]:
    parallel.start("cpu")
    norm = gloo_batch_norm.synchronise(make_norm(options), "cpu")
    assert type(norm).__name__ == "GlooBatchNorm"
    return normalise(norm, [take_part(batch, sizes) for batch in batches], take_part(weights, sizes))


def wrap_without_double() -> str:
    parallel.start("cpu")
    double, wrapped.synchronise_batch_norm = wrapped.synchronise_batch_norm, parallel.synchronise_batch_norm
    try:
        parallel.wrap_network(TwoHeads(), "cpu")
    except InputError as error:
        return str(error)
    finally:
        wrapped.synchronise_batch_norm = double
    return ""


class TwoHeads(nn.Module):
    """A network with BatchNorm whose training output is a list, as with deep supervision."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.heads = nn.ModuleList([nn.Conv2d(4, 1, 1), nn.Conv2d(4, 1, 1)])

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        features = self.stem(image)
        return [self.heads[0](features), self.heads[1](features[..., ::2, ::2])]


def make_deep_loss() -> nn.Module:
    """Make a loss that the mean over parts of the batch does not give."""
    return DeepSupervisionLoss(DiceCELoss(sigmoid=True, batch=True))


def train_steps(network: nn.Module, loss: nn.Module, image: torch.Tensor, label: torch.Tensor) -> dict[str, Any]:
    """Make three steps of plain gradient descent, which a gradient of the wrong size would show."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        value = loss(network(image), label)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return {"losses": losses, "state": parallel.unwrap_network(network).state_dict()}


def train_parts(state: dict[str, Any], image: torch.Tensor, label: torch.Tensor) -> dict[str, Any]:
    parallel.start("cpu")
    network = TwoHeads()
    network.load_state_dict(state)
    wrapped = parallel.wrap_network(network, "cpu")
    assert wrapped.heads is network.heads, "the network's own attributes are there"
    return train_steps(wrapped, GlobalBatchLoss(make_deep_loss()), take_part(image), take_part(label))


def refuse_different_shapes() -> tuple[Any, str]:
    parallel.start("cpu")
    size = 4 + 4 * torch.distributed.get_rank()
    try:
        GlobalBatchLoss(nn.MSELoss())(torch.ones(1, 1, size, size), torch.ones(1, 1, size, size))
    except InputError as error:
        return str(error), type(error).__name__
    except SystemExit as error:
        return error.code, type(error).__name__
    return None, ""


def gather_kinds() -> dict[str, list[Any]]:
    parallel.start("cpu")
    rank = torch.distributed.get_rank()
    kinds = {"bool": torch.tensor([rank == 0]), "byte": torch.tensor([rank], dtype=torch.uint8)}
    return {
        name: [parallel.gather_batch(tensor).dtype, parallel.gather_batch(tensor).tolist()]
        for name, tensor in kinds.items()
    }
