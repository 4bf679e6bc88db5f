"""SEG of the Cell Tracking Challenge: hand cases, loops over pixels, and through an engine into the tables."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine

from pipeline.handlers import CaseMetricsSaver
from pipeline.issues import InputError
from pipeline.metrics import ObjectCount, SegMeasure
from pipeline.reports.run_summary import read_scores


def ids_of(*rows):
    """Rows of digits to ids (1, H, W)."""
    return torch.tensor([[[int(digit) for digit in row] for row in rows]])


def seg_with_loops(pairs):
    """The definition, over sets of pixels; `pairs` of (pred, truth)."""
    scores = []
    for pred, truth in pairs:
        for r in set(truth.ravel().tolist()) - {0}:
            pixels = set(np.flatnonzero(truth == r))
            score = 0.0
            for s in set(pred.ravel().tolist()) - {0}:
                other = set(np.flatnonzero(pred == s))
                if len(pixels & other) > 0.5 * len(pixels):
                    score = len(pixels & other) / len(pixels | other)
            scores.append(score)
    return scores


HAND_CASES = {
    # name: pred, truth, scores of the objects, missed, false
    "perfect, other ids": (("0550990",), ("0110220",), [1, 1], 0, 0),
    "half of it covered is no match": (("0110000",), ("0111100",), [0], 1, 1),
    "three quarters of it covered": (("0111000",), ("0111100",), [3 / 4], 0, 0),
    "a union larger than the truth": (("1111111",), ("0111100",), [4 / 7], 0, 0),
    "split in halves": (("0112200",), ("0111100",), [0], 1, 2),
    "split, one part above a half": (("0111200",), ("0111100",), [3 / 4], 0, 1),
    "merged: it matches both": (("0111111",), ("0111222",), [3 / 6, 3 / 6], 0, 0),
    "merged with a smaller one": (("1111110",), ("1111220",), [4 / 6, 2 / 6], 0, 0),
    "missed": (("0110000",), ("0110222",), [1, 0], 1, 0),
    "false": (("0110222",), ("0110000",), [1], 0, 1),
    "nothing predicted": (("0000000",), ("0110222",), [0, 0], 2, 0),
    "no truth": (("0110000",), ("0000000",), [], 0, 1),
    "nothing at all": (("0000000",), ("0000000",), [], 0, 0),
    "parts of one id count together": (("1100011",), ("1100011",), [1], 0, 0),
    "over rows": (("110", "110", "000"), ("111", "111", "001"), [4 / 7], 0, 0),
}


@pytest.mark.parametrize("name", HAND_CASES)
def test_hand_cases(name):
    pred, truth, scores, missed, false = HAND_CASES[name]
    metric = SegMeasure()
    metric([ids_of(*pred)], [ids_of(*truth)])
    mean = sum(scores) / len(scores) if scores else math.nan
    assert metric.aggregate().item() == pytest.approx(mean, nan_ok=True)
    assert metric.get_buffer().tolist() == [[pytest.approx(mean, nan_ok=True)]]
    assert metric.get_counts().tolist() == [[pytest.approx(sum(scores)), len(scores), missed, false]]
    for kind, count in (("truth", len(scores)), ("missed", missed), ("false", false)):
        counter = ObjectCount(kind)
        counter([ids_of(*pred)], [ids_of(*truth)])
        assert (counter.aggregate().item(), counter.get_buffer().tolist()) == (count, [[count]])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([(3, 4), (5, 7), (2, 3, 4)]), st.integers(1, 4))
def test_equals_loops(seed, cases, shape, most):
    generator = np.random.default_rng(seed)
    pairs = [tuple(generator.integers(0, most + 1, shape) * 7 for _ in range(2)) for _ in range(cases)]
    pairs = [(np.where(generator.random(shape) < 0.7, truth, pred), truth) for pred, truth in pairs]
    metric = SegMeasure()
    for pred, truth in pairs:
        metric(*(torch.as_tensor(x)[None, None] for x in (pred, truth)))
    expected = seg_with_loops(pairs)
    assert metric.aggregate().item() == pytest.approx(np.mean(expected) if expected else math.nan, nan_ok=True)


def test_objects_are_pooled_and_cases_are_not():
    truth = [ids_of("1122334455"), ids_of("1100000000"), ids_of("0000000000")]
    pred = [ids_of("1122334455"), ids_of("0000000000"), ids_of("1100000000")]
    metric = SegMeasure()
    metric(pred, truth)
    assert metric.aggregate().item() == pytest.approx(5 / 6)
    assert metric.get_buffer().flatten().tolist() == pytest.approx([1, 0, math.nan], nan_ok=True)
    together, missed = SegMeasure(), ObjectCount("missed")
    for one in (together, missed):
        one(torch.stack(pred), torch.stack(truth))
    assert together.aggregate() == metric.aggregate()
    assert missed.aggregate() == 1


def test_numbers_of_objects_do_not_matter():
    pred, truth = ids_of("0112220", "0003330"), ids_of("0111220", "0000330")
    metric = SegMeasure()
    metric([pred, (pred * 20_000).float(), (4 - pred) * (pred > 0)], [truth, truth.to(torch.uint8), truth * 60_000])
    assert len(set(metric.get_buffer().flatten().tolist())) == 1


def test_reset_forgets_and_nothing_seen_is_nan():
    metric, count = SegMeasure(), ObjectCount("false")
    assert math.isnan(metric.aggregate().item())
    assert count.aggregate().item() == 0
    assert metric.get_buffer() is None
    assert count.get_buffer() is None
    metric([ids_of("10")], [ids_of("01")])
    metric.reset()
    metric([ids_of("10")], [ids_of("10")])
    assert metric.aggregate().item() == 1


def test_through_an_engine_into_the_tables(tmp_path):
    maps = {"a": ("1122", "1122"), "b": ("1110", "1111"), "c": ("0000", "0000")}
    batches = [
        [{"case_id": case, **{key: MetaTensor(ids_of(row)) for key, row in zip(("pred", "label"), rows, strict=True)}}]
        for case, rows in maps.items()
    ]
    engine = Engine(lambda engine, batch: batch)
    for name, metric in (("seg", SegMeasure()), ("n_false_objects", ObjectCount("false"))):
        IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "label"])).attach(engine, name)
    CaseMetricsSaver(tmp_path, metric_details="seg").attach(engine)
    engine.run(batches, max_epochs=1)
    assert engine.state.metrics == pytest.approx({"seg": (1 + 1 + 3 / 4) / 3, "n_false_objects": 0})
    scores = read_scores(tmp_path / "seg_raw.csv")
    assert list(scores) == ["a", "b", "c"]
    assert list(scores.values()) == pytest.approx([1, 3 / 4, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("pred", "truth", "message"),
    [
        (torch.full((1, 2, 2), 0.25), torch.zeros(1, 2, 2), "pred has the value 0.25, .* put AsDiscreted and LabelIns"),
        (torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5), "label has the value 0.5, expected instance ids .* check"),
        (torch.full((1, 2, 2), -1), torch.zeros(1, 2, 2), "pred has the value -1, expected instance ids from 0"),
        (torch.full((1, 2, 2), math.nan), torch.zeros(1, 2, 2), "pred has the value nan"),
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 3), r"of equal shape, got \(1, 2, 2\) and \(1, 2, 3\); put Invertd"),
        (torch.zeros(2, 2, 2), torch.zeros(2, 2, 2), r"instance ids \(1, \*spatial\), of equal shape, got \(2, 2, 2\)"),
        (torch.zeros(1, 2, 2), None, "a metric got no label"),
    ],
)
def test_what_is_no_map_of_ids_is_refused(pred, truth, message):
    with pytest.raises(InputError, match=message):
        SegMeasure()(pred[None], None if truth is None else truth[None])


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of truth, missed, false, got 'hit'"):
        ObjectCount("hit")
