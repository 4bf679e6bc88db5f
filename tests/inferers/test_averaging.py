"""PredictionMean: means of outputs and of probabilities, by hand and at the extremes."""

import itertools

import pytest
import torch

from pipeline.inferers.averaging import PredictionMean


def average(outputs: list[torch.Tensor], activation: str | None) -> torch.Tensor:
    mean = PredictionMean(activation)
    for output in outputs:
        mean.add(output)
    return mean.compute()


def test_sigmoid_by_hand() -> None:
    probabilities = torch.tensor([[0.1, 0.5], [0.2, 0.5], [0.9, 0.8]])
    found = average([row.logit()[None] for row in probabilities], "sigmoid").sigmoid()
    torch.testing.assert_close(found, torch.tensor([[0.4, 0.6]]))


def test_softmax_by_hand() -> None:
    probabilities = [torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.1, 0.8, 0.1]])]
    # Logits are probabilities' logarithms up to a constant, which must not matter.
    found = average([p.log() + shift for p, shift in zip(probabilities, (5.0, -3.0), strict=True)], "softmax")
    torch.testing.assert_close(found.softmax(1), torch.tensor([[0.4, 0.5, 0.1]]))
    torch.testing.assert_close(found.exp(), torch.tensor([[0.4, 0.5, 0.1]]))


def test_outputs_themselves() -> None:
    assert average([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])], None).tolist() == [2.0, 4.0]


def test_a_mean_of_probabilities_is_not_one_of_logits() -> None:
    outputs = [torch.full((1, 1), 8.0), torch.full((1, 1), -1.0)]
    assert average(outputs, "sigmoid").item() < 1 < average(outputs, None).item()


@pytest.mark.parametrize("activation", [None, "sigmoid", "softmax"])
def test_one_output_stays_as_it_is(activation: str | None) -> None:
    output = torch.linspace(-30, 30, 24).reshape(2, 3, 4)
    found = average([output], activation)
    expected = output.log_softmax(1) if activation == "softmax" else output
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("activation", [None, "sigmoid", "softmax"])
def test_order_does_not_matter(activation: str | None) -> None:
    torch.manual_seed(0)
    outputs = [torch.randn(2, 3, 4) * 10 for _ in range(3)]
    first, *others = (average(list(order), activation) for order in itertools.permutations(outputs))
    for other in others:
        torch.testing.assert_close(other, first)


def test_certain_predictions_stay_finite() -> None:
    certain = torch.tensor([[1e4, -1e4, 1e4]])
    assert average([certain, certain], "sigmoid").tolist() == [[1e4, -1e4, 1e4]]
    opposed = average([certain, -certain], "sigmoid")
    assert opposed.tolist() == [[0.0, 0.0, 0.0]]
    assert average([certain, -certain], "softmax").isfinite().all()


def test_infinite_logits_are_probabilities_of_0_and_1() -> None:
    inf = float("inf")
    outputs = [torch.tensor([[inf, -inf, inf]]), torch.tensor([[inf, -inf, -inf]])]
    assert average(outputs, "sigmoid").sigmoid().tolist() == [[1.0, 0.0, 0.5]]


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match="'sigmoid', 'softmax' or null, got 'relu'"):
        PredictionMean("relu")
    with pytest.raises(ValueError, match="nothing to average"):
        PredictionMean().compute()
