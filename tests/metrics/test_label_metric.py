"""LabelMetric: MONAI's metrics on one class; CaseCount: cases that a mean hides."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDistanceMetric
from monai.networks import one_hot

from pipeline.metrics import CaseCount, HausdorffDistance95, LabelDice, LabelMetric


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 2))
def test_equals_the_channel_of_a_one_hot_tensor(seed, label):
    generator = torch.Generator().manual_seed(seed)
    pred, truth = torch.randint(0, 3, (2, 2, 1, 6, 5), generator=generator)
    for build in (DiceMetric, MeanIoU):
        reference = build()
        reference(one_hot(pred, 3)[:, label : label + 1], one_hot(truth, 3)[:, label : label + 1])
        metric = LabelMetric(build(), label, num_classes=3)
        metric(list(pred), list(truth))
        assert metric.aggregate().item() == pytest.approx(reference.aggregate().item())
        assert metric.get_buffer().flatten().tolist() == pytest.approx(reference.get_buffer().flatten().tolist())
        metric.reset()
        metric(pred, truth)
        assert metric.aggregate().item() == pytest.approx(reference.aggregate().item())
        assert metric.aggregate(reduction="sum").item() == pytest.approx(reference.aggregate(reduction="sum").item())


def test_our_own_metric_inside_scores_the_same():
    truth = torch.tensor([[[0, 1, 2, 2], [0, 2, 2, 1]]])
    pred = torch.tensor([[[0, 2, 2, 2], [0, 2, 1, 1]]])
    inside = LabelMetric(HausdorffDistance95(spacing=[2.0, 1.0]), label=2, num_classes=3)
    inside([pred], [truth])
    # Both ways the distances are 0, 0, 0 and 1 mm, whose 95th percentile is 0.85 between the last two.
    assert inside.aggregate().item() == pytest.approx(0.85)
    assert HausdorffDistance95([2], spacing=[2.0, 1.0])([pred], [truth]).item() == pytest.approx(0.85)


@pytest.mark.parametrize("build", [HausdorffDistanceMetric, SurfaceDistanceMetric])
def test_leaving_out_the_only_channel_is_refused(build):
    with pytest.raises(ValueError, match=f"{build.__name__} gets one channel here: set include_background to true"):
        LabelMetric(build(), label=1, num_classes=3)
    assert LabelMetric(build(include_background=True), label=1, num_classes=3).label == 1


@pytest.mark.parametrize("metric", [None, "DiceMetric", torch.nn.MSELoss()])
def test_what_is_no_metric_is_refused(metric):
    with pytest.raises(ValueError, match="metric must be a cumulative metric such as DiceMetric, got"):
        LabelMetric(metric, label=1, num_classes=3)


def test_label_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match="labels has class 3, but num_classes is 3"):
        LabelMetric(DiceMetric(), label=3, num_classes=3)


@pytest.mark.parametrize(("kind", "number"), [("empty_gt", 3), ("missed", 1), ("both_empty", 2)])
def test_counts_by_hand(kind, number):
    some, none = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
    pairs = [(none, none), (none, none), (some, none), (none, some), (some, some), (some, some)]
    preds, truths = zip(*pairs, strict=True)
    metric = CaseCount(kind)
    metric(preds, truths)
    assert metric.aggregate().item() == number
    dice = LabelDice()
    dice(preds, truths)
    assert dice.count_cases()[f"n_{kind}"] == number


def test_each_class_of_a_case_counts_for_itself():
    metric = CaseCount("missed", [1, 2])
    metric([torch.tensor([[[0, 0, 0]]])], [torch.tensor([[[0, 1, 2]]])])
    assert metric.get_buffer().tolist() == [[1, 1]]
    assert metric.aggregate().item() == 2


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of empty_gt, missed, both_empty, got 'lost'"):
        CaseCount("lost")
