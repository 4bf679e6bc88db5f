"""WeightMapBCELoss: by hand, against PyTorch, and with the weights of real shapes."""

import math

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ConcatItemsd

from pipeline.losses import WeightMapBCELoss
from pipeline.transforms import BorderWeightMapd, SeparateInstancesd


def make_case(*shape):
    torch.manual_seed(0)
    logits = torch.randn(shape, requires_grad=True)
    mask, weight = (torch.rand(shape) > 0.7).float(), 1 + 9 * torch.rand(shape)
    return logits, mask, weight


def bce(logit, mask):
    probability = 1 / (1 + math.exp(-logit))
    return -math.log(probability if mask else 1 - probability)


def test_by_hand():
    logits = torch.tensor([[[[2.0, -1.0, 0.5]]]])
    target = torch.tensor([[[[1.0, 0.0, 0.0]], [[1.0, 2.0, 10.0]]]])
    terms = [1 * bce(2, 1), 2 * bce(-1, 0), 10 * bce(0.5, 0)]
    assert WeightMapBCELoss("none")(logits, target).flatten().tolist() == pytest.approx(terms)
    assert WeightMapBCELoss("sum")(logits, target).item() == pytest.approx(sum(terms))
    assert WeightMapBCELoss()(logits, target).item() == pytest.approx(sum(terms) / 3)
    assert WeightMapBCELoss(normalize=True)(logits, target).item() == pytest.approx(sum(terms) / 13)


@pytest.mark.parametrize("shape", [(2, 1, 5, 6), (2, 1, 3, 4, 5)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_equals_pytorch_with_gradients(shape, reduction):
    logits, mask, weight = make_case(*shape)
    loss = WeightMapBCELoss(reduction)(logits, torch.cat([mask, weight], 1))
    expected = torch.nn.BCEWithLogitsLoss(weight=weight, reduction=reduction)(logits, mask)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), logits)[0])


@pytest.mark.parametrize("normalize", [False, True])
def test_weight_1_is_the_plain_loss(normalize):
    logits, mask, weight = make_case(2, 1, 5, 6)
    loss = WeightMapBCELoss(normalize=normalize)(logits, torch.cat([mask, torch.ones_like(weight)], 1))
    torch.testing.assert_close(loss, torch.nn.BCEWithLogitsLoss()(logits, mask))


def test_normalized_loss_does_not_grow_with_the_weights():
    logits, mask, weight = make_case(2, 1, 5, 6)
    losses = [WeightMapBCELoss(normalize=True)(logits, torch.cat([mask, k * weight], 1)) for k in (1, 7)]
    torch.testing.assert_close(*losses)


def test_targets_as_a_config_makes_them():
    ids = torch.zeros(1, 12, 40, dtype=torch.int32)
    ids[0, :6, :6], ids[0, 6:, :6] = 1, 2
    item = {"label": MetaTensor(ids)}
    for transform in (
        BorderWeightMapd("label"),
        SeparateInstancesd("label"),
        ConcatItemsd(["label", "weight"], "label"),
    ):
        item = transform(item)
    assert item["label"].shape == (2, 12, 40)
    confident = torch.where(item["label"][:1] > 0, 20.0, -20.0)[None]
    assert WeightMapBCELoss()(confident, item["label"][None]).item() == pytest.approx(0, abs=1e-6)
    border = confident.clone()
    border[0, 0, 5:7, :5] = 20  # the border closed, against as many pixels of background elsewhere
    elsewhere = confident.clone()
    elsewhere[0, 0, :5, 37:39] = 20
    losses = [WeightMapBCELoss()(logits, item["label"][None]).item() for logits in (border, elsewhere)]
    assert losses[0] > 5 * losses[1] > 0


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        ((2, 1, 4, 4), (2, 1, 4, 4), r"expected a target \(2, 2, 4, 4\) of mask and weights .* join mask and weights"),
        ((2, 1, 4, 4), (2, 2, 4, 5), r"expected a target \(2, 2, 4, 4\)"),
        ((2, 1, 4, 4), (1, 2, 4, 4), r"expected a target \(2, 2, 4, 4\)"),
        ((2, 2, 4, 4), (2, 2, 4, 4), r"expected logits \(B, 1, \*spatial\), got shape \(2, 2, 4, 4\)"),
        ((4, 1), (4, 2), r"expected logits \(B, 1, \*spatial\)"),
    ],
)
def test_other_shapes_are_refused(logits, target, message):
    with pytest.raises(ValueError, match=message):
        WeightMapBCELoss()(torch.zeros(logits), torch.zeros(target))


def test_other_reductions_are_refused():
    with pytest.raises(ValueError, match="median"):
        WeightMapBCELoss("median")
    with pytest.raises(ValueError, match='normalize needs the reduction "mean", got "sum"'):
        WeightMapBCELoss("sum", normalize=True)
