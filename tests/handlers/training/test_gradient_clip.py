import pytest
import torch
from monai.engines import SupervisedTrainer
from torch.utils.data import DataLoader

from pipeline.handlers import GradientClip


def train_once(max_norm: float | None) -> torch.Tensor:
    """One step of plain gradient descent from zero weights; returns the step."""
    network = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    data = [{"image": torch.tensor([30.0, 40.0]), "label": torch.tensor([1.0])}]
    handlers = [] if max_norm is None else [GradientClip(network, max_norm)]
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(data, batch_size=1),  # type: ignore[arg-type]
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        # The gradient is -(30, 40), of norm 50.
        loss_function=lambda pred, label: (label - pred).sum(),
        train_handlers=handlers,
        decollate=False,
    ).run()
    return network.weight.detach()[0]


def test_long_gradients_keep_their_direction_and_get_the_norm() -> None:
    torch.testing.assert_close(train_once(1.0), torch.tensor([0.6, 0.8]))


def test_short_gradients_stay_as_they_are() -> None:
    torch.testing.assert_close(train_once(60.0), torch.tensor([30.0, 40.0]))
    torch.testing.assert_close(train_once(None), torch.tensor([30.0, 40.0]))


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan")])
def test_a_norm_that_is_not_positive_is_refused(max_norm: float) -> None:
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        GradientClip(torch.nn.Linear(1, 1), max_norm)
