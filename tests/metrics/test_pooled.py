"""Pooled Dice, IoU and accuracy: by hand, and against one count over all pixels of the set."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics import BackgroundAccuracy, PixelAccuracy, PooledDice, PooledIoU

SETS = st.tuples(st.integers(0, 10_000), st.lists(st.integers(1, 6), min_size=1, max_size=4))


def draw(drawn):
    """Cases of different sizes: lists of maps (1, 3, n) of three classes."""
    seed, widths = drawn
    generator = np.random.default_rng(seed)
    return [[generator.integers(0, 3, (1, 3, width)) for width in widths] for _ in range(2)]


def feed(metric, preds, truths):
    for pred, truth in zip(preds, truths, strict=True):
        metric([torch.as_tensor(pred)], [torch.as_tensor(truth)])
    return metric.aggregate().item()


@settings(max_examples=50, deadline=None)
@given(SETS)
def test_one_count_over_the_set(drawn):
    preds, truths = draw(drawn)
    pred, truth = (np.concatenate([item.ravel() for item in items]) for items in (preds, truths))
    dices, ious = [], []
    for label in (1, 2):
        both, either = ((pred == label) & (truth == label)).sum(), ((pred == label) | (truth == label)).sum()
        if either:
            ious.append(both / either)
            dices.append(2 * both / ((pred == label).sum() + (truth == label).sum()))
    assert feed(PooledDice([1, 2]), preds, truths) == pytest.approx(np.mean(dices) if dices else math.nan, nan_ok=True)
    assert feed(PooledIoU([1, 2]), preds, truths) == pytest.approx(np.mean(ious) if ious else math.nan, nan_ok=True)
    assert feed(PixelAccuracy(3), preds, truths) == pytest.approx((pred == truth).mean())
    assert feed(BackgroundAccuracy(3), preds, truths) == pytest.approx((truth == 0).mean())


@settings(max_examples=30, deadline=None)
@given(SETS, st.randoms())
def test_order_of_the_cases_does_not_matter(drawn, random):
    preds, truths = draw(drawn)
    order = list(range(len(preds)))
    random.shuffle(order)
    for build in (PooledDice, PooledIoU):
        shuffled = feed(build([1, 2]), [preds[k] for k in order], [truths[k] for k in order])
        assert shuffled == pytest.approx(feed(build([1, 2]), preds, truths), nan_ok=True)


def test_table_holds_the_score_of_each_case():
    large, small = torch.ones(1, 9, 1), torch.ones(1, 1, 1)
    metric = PooledIoU()
    metric([large, small * 0], [large, small])
    assert metric.get_buffer().tolist() == [[1.0], [0.0]]
    assert metric.aggregate().item() == pytest.approx(0.9)
    accuracy = PixelAccuracy()
    accuracy([large, small * 0], [large, small])
    assert accuracy.get_buffer().tolist() == [[1.0], [0.0]]
    assert accuracy.aggregate().item() == pytest.approx(0.9)


def test_predicting_nothing_looks_excellent_and_says_so():
    truth = torch.zeros(1, 10, 10)
    truth[0, 0, :3] = 1
    nothing = torch.zeros_like(truth)
    assert feed(PixelAccuracy(), [nothing], [truth]) == pytest.approx(0.97)
    assert feed(BackgroundAccuracy(), [nothing], [truth]) == pytest.approx(0.97)
    assert feed(PooledDice(), [nothing], [truth]) == 0


def test_set_without_foreground_has_no_pooled_score():
    nothing = torch.zeros(1, 2, 2)
    assert math.isnan(feed(PooledDice(), [nothing], [nothing]))
    assert math.isnan(feed(PooledIoU(), [nothing], [nothing]))


def test_reset_forgets():
    ones = torch.ones(1, 2, 2)
    for metric in (PooledDice(), PooledIoU(), PixelAccuracy()):
        feed(metric, [ones * 0], [ones])
        metric.reset()
        assert feed(metric, [ones], [ones]) == 1


def test_sums_are_exact_over_many_large_images():
    """The pixels of a set exceed what float32, or 32-bit integers, can count."""
    metric = PixelAccuracy()
    metric.extend(torch.tensor([[2**31, 2**31], [2**31 - 1, 2**31]]))
    assert metric.aggregate().item() == pytest.approx(1 - 2**-32, abs=1e-13)
    pooled = PooledIoU()
    pooled.extend(torch.ones(2, 1), torch.tensor([[[2**31, 0, 0]], [[2**31 - 1, 1, 0]]]))
    assert pooled.aggregate().item() == pytest.approx(1 - 2**-32, abs=1e-13)


@pytest.mark.parametrize("build", [PixelAccuracy, BackgroundAccuracy])
def test_background_alone_is_no_set_of_classes(build):
    with pytest.raises(ValueError, match="num_classes counts the background too, so it must be at least 2, got 1"):
        build(1)
