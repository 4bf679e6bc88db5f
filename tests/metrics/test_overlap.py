"""LabelDice, LabelIoU and ThresholdedJaccard: truth table of empty masks, sets of voxels, MONAI's own metrics."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric, MeanIoU
from monai.networks import one_hot

from pipeline.metrics import LabelDice, LabelIoU, ThresholdedJaccard

NAN = float("nan")
NOTHING, SOME = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
SOME[:, :2] = 1
EMPTY_CASES = [(NOTHING, NOTHING), (SOME, NOTHING), (NOTHING, SOME), (SOME, SOME)]  # prediction, truth
TABLE = {"exclude": [NAN, 0, 0, 1], "perfect": [1, 0, 0, 1], "truth_only": [NAN, NAN, 0, 1]}
MAPS = st.tuples(st.integers(0, 10_000), st.sampled_from([(5, 4), (4, 3, 3)]), st.sampled_from([0.0, 0.2, 0.6]))


def draw(case, classes=3):
    """Two random maps of class ids (1, *shape), some of them without foreground."""
    seed, shape, density = case
    generator = np.random.default_rng(seed)
    maps = generator.integers(1, classes, (2, 1, *shape)) * (generator.random((2, 1, *shape)) < density)
    return [torch.as_tensor(item) for item in maps]


def dice_of_sets(pred, truth, label):
    """Dice from the sets of the voxels' places."""
    first, second = ({tuple(p) for p in np.argwhere(np.asarray(item) == label)} for item in (pred, truth))
    return 2 * len(first & second) / (len(first) + len(second)) if first or second else NAN


@pytest.mark.parametrize("policy", TABLE)
@pytest.mark.parametrize("build", [LabelDice, LabelIoU, ThresholdedJaccard])
def test_truth_table_of_empty_masks(build, policy):
    metric = build(empty_policy=policy)
    preds, truths = zip(*EMPTY_CASES, strict=True)
    scores = metric(preds, truths).flatten().tolist()
    assert scores == pytest.approx(TABLE[policy], nan_ok=True)
    assert metric.aggregate().item() == pytest.approx(np.nanmean(TABLE[policy]))
    valid = int(np.isfinite(TABLE[policy]).sum())
    assert metric.count_cases() == {"n": valid, "n_both_empty": 1, "n_empty_gt": 2, "n_missed": 1}


@pytest.mark.parametrize("policy", ["exclude", "truth_only"])
@pytest.mark.parametrize("build", [LabelDice, LabelIoU, ThresholdedJaccard])
def test_set_without_any_score_has_no_mean(build, policy):
    metric = build(empty_policy=policy)
    metric([NOTHING, NOTHING], [NOTHING, NOTHING])
    assert math.isnan(metric.aggregate().item())
    assert metric.count_cases()["n"] == 0


def test_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="empty_policy must be one of exclude, perfect, truth_only, got 'ignore'"):
        LabelDice(empty_policy="ignore")


@settings(max_examples=60, deadline=None)
@given(MAPS)
def test_dice_equals_that_of_sets_and_follows_from_iou(case):
    pred, truth = draw(case)
    expected = [dice_of_sets(pred, truth, label) for label in (1, 2)]
    dice, iou = LabelDice([1, 2])([pred], [truth])[0], LabelIoU([1, 2])([pred], [truth])[0]
    assert dice.tolist() == pytest.approx(expected, nan_ok=True)
    assert (2 * iou / (1 + iou)).tolist() == pytest.approx(expected, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(MAPS, st.integers(1, 2))
def test_symmetric_and_blind_to_flips_and_to_the_order_of_labels(case, axis):
    pred, truth = draw(case)
    scores = LabelDice([1, 2])([pred], [truth])
    assert torch.equal(LabelDice([1, 2])([truth], [pred]).nan_to_num(), scores.nan_to_num())
    assert torch.equal(LabelDice([1, 2])([pred.flip(axis)], [truth.flip(axis)]).nan_to_num(), scores.nan_to_num())
    swapped = [torch.where(item > 0, 3 - item, item) for item in (pred, truth)]
    assert torch.equal(LabelDice([2, 1])([swapped[0]], [swapped[1]]).nan_to_num(), scores.nan_to_num())
    assert torch.equal(LabelDice([2, 1])([pred], [truth]).flip(1).nan_to_num(), scores.nan_to_num())


@settings(max_examples=40, deadline=None)
@given(st.lists(MAPS, min_size=1, max_size=4), st.sampled_from([("perfect", False), ("truth_only", True)]))
def test_equals_monai_on_one_hot_tensors_under_the_same_policy(cases, policy):
    name, ignore_empty = policy
    pairs = [draw(case) for case in cases]
    for ours, theirs in ((LabelDice, DiceMetric), (LabelIoU, MeanIoU)):
        metric = ours([1, 2], empty_policy=name)
        reference = theirs(include_background=False, ignore_empty=ignore_empty)
        for pred, truth in pairs:
            scores = metric([pred], [truth])
            expected = reference([one_hot(pred, 3, dim=0)], [one_hot(truth, 3, dim=0)])
            assert scores.tolist()[0] == pytest.approx(expected.tolist()[0], nan_ok=True)
        mean = metric.aggregate().item()
        assert math.isnan(mean) or mean == pytest.approx(reference.aggregate().item())


def test_mean_over_classes_of_a_case_then_over_cases():
    truth = torch.tensor([[[0, 1, 2, 2]]])
    metric = LabelDice([1, 2])
    metric([truth, torch.tensor([[[1, 1, 0, 0]]])], [truth, torch.tensor([[[0, 1, 0, 0]]])])
    assert metric.get_buffer().tolist()[0] == [1, 1]
    assert metric.get_buffer().tolist()[1] == pytest.approx([2 / 3, NAN], nan_ok=True)
    assert metric.aggregate().item() == pytest.approx((1 + 2 / 3) / 2)


def test_large_volumes_lose_no_voxel():
    """Beyond 2^24 float32 cannot count by one."""
    pred, truth = torch.ones(1, 2**12, 2**12 + 2, dtype=torch.uint8), torch.ones(1, 2**12, 2**12 + 2, dtype=torch.uint8)
    pred[0, 0, 0] = 0
    metric = LabelIoU()
    assert metric([pred], [truth]).item() == pytest.approx(1, abs=1e-6)
    assert metric.get_counts().tolist() == [[[2**24 + 2**13 - 1, 0, 1]]]


@pytest.mark.parametrize(("found", "score"), [(20, 1.0), (14, 0.7), (13, 0.65), (12, 0.0), (1, 0.0), (0, 0.0)])
def test_jaccard_of_exactly_the_threshold_counts(found, score):
    pred = torch.zeros(1, 4, 5)
    pred.view(-1)[:found] = 1
    assert ThresholdedJaccard()([pred], [torch.ones(1, 4, 5)]).item() == pytest.approx(score)


def test_challenge_score_is_the_mean_over_images():
    metric = ThresholdedJaccard()
    for found in (20, 13, 12, 10):
        pred = torch.zeros(1, 4, 5)
        pred.view(-1)[:found] = 1
        metric([pred], [torch.ones(1, 4, 5)])
    assert metric.aggregate().item() == pytest.approx((1 + 0.65 + 0 + 0) / 4)
    assert ThresholdedJaccard(0)([NOTHING + SOME], [NOTHING + 1]).item() == 0.5


@pytest.mark.parametrize("threshold", [-0.1, 1.1, NAN])
def test_threshold_beyond_an_index_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold must be between 0 and 1, got"):
        ThresholdedJaccard(threshold)


def test_through_an_engine_every_epoch_starts_afresh():
    engine = Engine(lambda engine, batch: [{"pred": batch[0], "label": batch[1]}])
    handler = IgniteMetricHandler(metric_fn=LabelDice(), output_transform=from_engine(["pred", "label"]))
    handler.attach(engine, "dice")
    for _ in range(2):
        engine.run(EMPTY_CASES, max_epochs=1)
        assert engine.state.metrics["dice"] == pytest.approx(1 / 3)
        assert engine.state.metric_details["dice"].flatten().tolist() == pytest.approx([NAN, 0, 0, 1], nan_ok=True)
    engine.run(EMPTY_CASES[:1], max_epochs=1)
    assert math.isnan(engine.state.metrics["dice"])
