"""NonEmptySliceDice: by hand, against loops, and through an engine."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine

from pipeline.metrics import NonEmptySliceDice


def dice_with_loops(pairs):
    """Dice of every slice with truth, voxel by voxel; `pairs` of arrays (H, W, D)."""
    scores = []
    for pred, truth in pairs:
        for k in range(truth.shape[-1]):
            both = sum(int(p and t) for p, t in zip(pred[..., k].ravel(), truth[..., k].ravel(), strict=True))
            sizes = int(pred[..., k].sum() + truth[..., k].sum())
            if truth[..., k].any():
                scores.append(2 * both / sizes)
    return scores


def hand_case():
    """Three slices: 2 of 4 voxels found; no truth but 3 voxels predicted; 1 voxel missed."""
    pred, truth = torch.zeros(1, 1, 3, 2, 3), torch.zeros(1, 1, 3, 2, 3)
    truth[0, 0, :2, :, 0] = 1
    pred[0, 0, :1, :, 0] = 1
    pred[0, 0, :, 0, 1] = 1
    truth[0, 0, 2, 1, 2] = 1
    return pred, truth


def test_hand_table():
    metric = NonEmptySliceDice()
    metric(*hand_case())
    assert metric.get_buffer().flatten().tolist() == pytest.approx([2 / 3, math.nan, 0], nan_ok=True)
    assert metric.aggregate().item() == pytest.approx(1 / 3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.sampled_from([0.0, 0.1, 0.5]))
def test_equals_loops(seed, cases, depth, density):
    generator = np.random.default_rng(seed)
    pairs = [tuple(generator.random((2, 3, 2, depth)) < density) for _ in range(cases)]
    metric = NonEmptySliceDice()
    for pred, truth in pairs:
        metric(*(torch.as_tensor(x[None, None]).float() for x in (pred, truth)))
    expected = dice_with_loops(pairs)
    assert metric.aggregate().item() == pytest.approx(np.mean(expected) if expected else math.nan, nan_ok=True)


def test_slices_count_alike_whatever_the_case_and_the_call():
    pred, truth = hand_case()
    full = torch.ones(1, 1, 3, 2, 3)
    by_case, batch, decollated = NonEmptySliceDice(), NonEmptySliceDice(), NonEmptySliceDice()
    by_case(pred, truth)
    by_case(full, full)
    batch(torch.cat([pred, full]), torch.cat([truth, full]))
    decollated([pred[0], full[0]], [truth[0], full[0]])
    for metric in (by_case, batch, decollated):
        assert metric.aggregate().item() == pytest.approx((2 / 3 + 0 + 3) / 5)


def test_decollated_cases_may_differ_in_size():
    pred, truth = hand_case()
    metric = NonEmptySliceDice()
    metric([pred[0], torch.ones(1, 5, 4, 1)], [truth[0], torch.ones(1, 5, 4, 1)])
    assert metric.aggregate().item() == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_case_without_any_truth_does_not_count():
    pred, truth = hand_case()
    metric = NonEmptySliceDice()
    metric(pred, torch.zeros_like(truth))
    metric(pred, truth)
    assert metric.aggregate().item() == pytest.approx(1 / 3)


def test_nothing_seen_and_nothing_but_empty_slices_give_nan():
    metric = NonEmptySliceDice()
    assert math.isnan(metric.aggregate().item())
    metric(torch.ones(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2))
    assert math.isnan(metric.aggregate().item())
    metric.reset()
    metric([torch.ones(1, 2, 2, 2)], [torch.zeros(1, 2, 2, 2)])
    assert math.isnan(metric.aggregate().item())


def test_reset_forgets():
    metric = NonEmptySliceDice()
    metric(*hand_case())
    metric.reset()
    metric(torch.ones(1, 1, 2, 2, 1), torch.ones(1, 1, 2, 2, 1))
    assert metric.aggregate().item() == 1


def test_through_an_engine():
    pred, truth = hand_case()
    empty = torch.zeros_like(truth)
    batches = [(pred, truth), (empty, empty), (truth, truth)]

    def step(engine, batch):
        return [{"pred": MetaTensor(batch[0][0]), "label": MetaTensor(batch[1][0])}]

    engine = Engine(step)
    handler = IgniteMetricHandler(metric_fn=NonEmptySliceDice(), output_transform=from_engine(["pred", "label"]))
    handler.attach(engine, "dice_slice_nonempty")
    for _ in range(2):  # the second epoch starts afresh
        engine.run(batches, max_epochs=1)
        assert float(engine.state.metrics["dice_slice_nonempty"]) == pytest.approx((2 / 3 + 0 + 1 + 1) / 4)
    engine.run([(pred, empty)], max_epochs=1)
    assert math.isnan(float(engine.state.metrics["dice_slice_nonempty"]))


@pytest.mark.parametrize(
    ("pred", "truth"),
    [
        ((1, 1, 4, 4, 2), None),
        ((1, 1, 4, 4, 2), (1, 1, 4, 4, 3)),
        ((1, 1, 4, 4), (1, 1, 4, 4)),
        ((1, 2, 4, 4, 2), (1, 2, 4, 4, 2)),
    ],
)
def test_wrong_shapes_are_refused(pred, truth):
    with pytest.raises(ValueError, match=r"expected two tensors \(B, 1, H, W, D\), got"):
        NonEmptySliceDice()(torch.zeros(pred), None if truth is None else torch.zeros(truth))
