"""The steps after the probabilities, built with any values: as fresh ones would be, whatever ran before."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, KeepLargestConnectedComponentd

from pipeline.issues import InputError
from pipeline.tuning.chain import Chain
from pipeline.tuning.workflow import open_workflow
from tests.bundles.conftest import ROOT

BUNDLE = ROOT / "bundles/lgg_attunet"


@pytest.fixture(scope="module")
def workflow():
    return open_workflow(BUNDLE, [], {"bundle_root": str(BUNDLE)})


def make_case(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.zeros(1, 24, 24, 4)
    label[:, 6:16, 6:16, 1:3] = 1
    prob = (0.6 * label + 0.55 * torch.rand(label.shape, generator=generator)).clamp(0, 1)
    return {"pred": MetaTensor(prob), "label": MetaTensor(label)}


def make_settings(workflow) -> list[dict]:
    off = {**workflow.knobs, "skip_largest_component": True, "min_size": 8, "opening_radius": 1}
    switches = ("skip_largest_component", "skip_opening", "skip_small_objects")
    return [
        off | {"threshold": threshold} | dict(zip(switches, values, strict=True))
        for threshold, *values in itertools.product((0.3, 0.6), *[(True, False)] * 3)
    ]


def test_the_order_of_settings_does_not_matter(workflow) -> None:
    settings = make_settings(workflow)
    forward, backward = Chain(workflow), Chain(workflow)
    forward.start(make_case())
    backward.start(make_case())
    scores = [forward.score(setting, "a")[0] for setting in settings]
    assert len(set(scores)) > 4
    assert [backward.score(setting, "a")[0] for setting in reversed(settings)] == scores[::-1]
    fresh = Chain(workflow)
    for setting, score in zip(settings, scores, strict=True):
        fresh.start(make_case())
        assert fresh.score(setting, "a")[0] == score


def test_the_case_is_left_as_it_was(workflow) -> None:
    case, chain = make_case(), Chain(workflow)
    before = {key: value.clone() for key, value in case.items()}
    chain.start(case)
    for setting in make_settings(workflow):
        chain.score(setting, "a")
    assert all(torch.equal(case[key], before[key]) for key in case)


def test_the_score_is_that_of_the_metric_on_what_the_steps_give(workflow) -> None:
    chain, case = Chain(workflow), make_case()
    chain.start(case)
    setting = make_settings(workflow)[0] | {"skip_largest_component": False, "threshold": 0.6}
    score, seconds = chain.score(setting, "a")
    mask = {"pred": (case["pred"] >= 0.6).float()}
    pred = Compose([KeepLargestConnectedComponentd("pred", applied_labels=1)])(mask)["pred"] > 0
    truth = case["label"] > 0
    assert score == pytest.approx(2 * float((pred & truth).sum()) / float(pred.sum() + truth.sum()))
    assert 0 < seconds < 60


def test_what_runs_once_counts_in_the_seconds_of_every_setting(workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, case = Chain(workflow), make_case()
    ticks = itertools.count()
    monkeypatch.setattr("pipeline.tuning.chain.time.perf_counter", lambda: float(next(ticks)))
    chain.start(case)
    setting = make_settings(workflow)[0] | {"skip_opening": False}
    first = chain.score(setting, "a")[1]
    assert chain.score(setting | {"skip_largest_component": False}, "a")[1] == first + 1


def test_a_step_that_refuses_a_case_is_named_with_it(workflow, tmp_path: Path) -> None:
    chain = Chain(workflow)
    case = make_case()
    case["pred"].meta["filename_or_obj"] = str(tmp_path / "gone.tif")
    chain.start(case)
    with pytest.raises(InputError, match=r"LoadSourced, case patient 7: .*gone.tif is missing"):
        chain.score(workflow.knobs | {"skip_crf": False}, "patient 7")


def test_a_value_that_a_step_does_not_take_is_one_line(workflow) -> None:
    chain = Chain(workflow)
    chain.start(make_case())
    with pytest.raises(InputError) as caught:
        chain.score(workflow.knobs | {"skip_opening": False, "opening_radius": -1}, "a")
    assert "opening" in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_other_steps_or_another_metric_are_another_table(workflow) -> None:
    digest = Chain(workflow).digest()
    knobs = open_workflow(BUNDLE, [], {"bundle_root": "elsewhere", "threshold": 0.2, "learning_rate": 1})
    assert Chain(knobs).digest() == digest
    metric = "validate#key_metric#dice_patient#metric_fn#ignore_empty"
    assert Chain(open_workflow(BUNDLE, [], {metric: True})).digest() != digest
    step = f"refine#{len(workflow.steps) - 1}#applied_labels"
    assert Chain(open_workflow(BUNDLE, [], {step: [1]})).digest() != digest
