"""Parts of the scripts of `benchmarks` whose values can be computed by hand."""

from __future__ import annotations

import argparse
import importlib
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from tests.docs.markdown import ROOT


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Import a script as `python benchmarks/NAME.py` does, with its folder first on the path."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def read(name: str) -> ModuleType:
        return importlib.import_module(name)

    return read


def test_loss_of_the_plain_loop(load) -> None:
    loops = load("seed_loops")
    logits, label = torch.zeros(2, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]], [[[0.0, 0.0]]]])
    recipe = loops.Recipe(None, 1, 0.1, 0.5, 0.5, smooth=1.0)
    # All probabilities are 0.5: cross-entropy ln 2; Dice (2 * 0.5 + 1) / (2 + 1 + 1) over the batch.
    assert float(loops.compute_loss(recipe, logits, label)) == pytest.approx(0.5 * math.log(2) + 0.5 * 0.5)
    each = loops.Recipe(None, 1, 0.1, 0.0, 1.0, smooth=1.0, per_image=True)
    # Of the two images (2 * 0.5 + 1) / (1 + 1 + 1) and 1 / (1 + 0 + 1).
    assert float(loops.compute_loss(each, logits, label)) == pytest.approx(1 - (2 / 3 + 1 / 2) / 2)


def test_the_plain_loop_reads_resizes_normalises_and_crops(load, tmp_path: Path) -> None:
    loops = load("seed_loops")
    Image.fromarray(np.full((4, 6, 3), 255, np.uint8)).save(tmp_path / "image.png")
    mask = np.zeros((8, 8), np.uint16)
    mask[:, 4:] = 7
    Image.fromarray(mask).save(tmp_path / "mask.tif")
    recipe = loops.Recipe(8, 1, 0.1, 1.0, 0.0, mean=(0.5,), std=(0.25,), label_size=4)
    item = {"image": str(tmp_path / "image.png"), "label": [str(tmp_path / "mask.tif")]}
    image, label = loops.Pictures([item], recipe, 0)[0]
    assert image.shape == (1, 8, 8)
    assert image.unique().tolist() == [2.0]
    assert label.tolist() == [[[0.0, 0.0, 1.0, 1.0]] * 4]


def test_slices_are_drawn_by_their_tumour(load, tmp_path: Path) -> None:
    loops = load("seed_loops")
    item: dict[str, list[str]] = {"image": [], "label": []}
    for number, area in enumerate((0, 3, 1)):
        mask = np.zeros((4, 4), np.uint8)
        mask.flat[:area] = 255
        for name, pixels in (("image", np.full((4, 4, 3), 40 * number, np.uint8)), ("label", mask)):
            item[name].append(str(tmp_path / f"{name}{number}.tif"))
            Image.fromarray(pixels).save(item[name][-1])
    slices = loops.Slices([item], loops.Recipe(None, 1, 0.1, 0.0, 1.0), 0)
    assert slices.weights[0] == pytest.approx([1 / 30, 0.9 * 3 / 4 + 1 / 30, 0.9 / 4 + 1 / 30])
    assert len(slices) == 32
    pixels = torch.cat([image.flatten(1) for image, _ in next(slices.list_cases())], dim=1)
    assert pixels.mean(1).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert pixels.std(1, correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-4)


def test_dice_of_the_plain_loop_is_by_case(load) -> None:
    loops = load("seed_loops")

    class Cases:
        def list_cases(self):
            one, none = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
            yield [(one, one), (none, one)]  # 4 of 4 and 8
            yield [(none, none)]

    assert loops.score(torch.nn.Identity(), Cases()) == pytest.approx((2 * 4 / 12 + 1) / 2)


def test_rows_and_points_of_nnunet(load) -> None:
    nnunet = load("nnunet")
    cases = [f"case{number}" for number in range(12)]
    subjects = {case: case for case in cases}
    ours = {"seconds": 300.0, "scores": dict.fromkeys(cases, 0.8)}
    theirs = {"steps": 120, "scores": dict(zip(cases, (0.5, 0.6) * 6, strict=True))}
    row = nnunet.compare(ours, theirs, subjects, "nnU-Net", "brains")
    assert (row.what, row.goal) == ("brains, 5.0 minutes", 1.0)
    assert row.ratio == pytest.approx(0.8 / 0.55)
    assert row.accuracy.startswith("ours minus theirs +0.250 (0.")
    assert row.accuracy.endswith("; 12 cases, 12 subjects)")
    nothing = nnunet.compare(ours, {"steps": 1, "scores": dict.fromkeys(cases, 0.0)}, subjects, "nnU-Net", "brains")
    assert nothing.ratio is None
    assert "found nothing: no ratio" in nothing.note
    minutes, mean, low, high = nnunet.find_point(ours, subjects)
    assert (minutes, mean) == (5.0, pytest.approx(0.8))
    assert low <= mean <= high
    args = argparse.Namespace(bundle="b", fold=0, version="2", configuration="2d")
    _, *missing = nnunet.list_unmeasured([row], {"nnU-Net 2 2d, own": [[5.2, 0.5]]}, args)
    budgets = [(one.what.removeprefix("b, fold 0, "), one.peer.split()[-1]) for one in missing]
    assert budgets[:2] == [("15 minutes", "own"), ("60 minutes", "own")]
    assert budgets[2:] == [(f"{minutes} minutes", "short") for minutes in (5, 15, 60)]
    assert all(one.note.startswith("not measured") and one.ours is None for one in missing)


def test_what_nnunet_did_is_not_done_again(load, tmp_path: Path) -> None:
    remember = load("nnunet").remember
    assert remember(tmp_path / "a.json", lambda: {"seconds": 1.5}) == {"seconds": 1.5}
    assert remember(tmp_path / "a.json", lambda: pytest.fail("made again")) == {"seconds": 1.5}


def test_a_crf_that_differs_is_no_claim(load) -> None:
    crf = load("crf")
    good = {"label_iou": 0.9999, "max_dq": 1e-4, "cpu_ms": 50.0, "wall_ms": 99.0, "ratio": 2.5, "ratios": [2.4, 2.6]}
    lines = {"pydensecrf2": {"cpu_ms": 125.0, "wall_ms": 130.0}, "1 thread cold": good}
    wrong = {**lines, "1 thread cold": {"label_iou": 0.9, "max_dq": 0.1}}
    rows = crf.make_rows({"speed": {"512 x 512 RGB, 2 labels": lines, "other": wrong}})
    assert [(row.peer_value, row.ours, row.ratio, row.goal, row.counts) for row in rows] == [
        (125.0, 50.0, 2.5, 2.0, True),
        (None, None, None, 3.0, True),
        (None, None, None, None, False),
        (None, None, None, None, True),
    ]
    assert rows[1].note == "not measured: the machine was shared"
