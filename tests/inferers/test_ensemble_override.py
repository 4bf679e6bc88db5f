"""A bundle's ensemble.json, run as a user runs it, for inference and for evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run
from PIL import Image

from pipeline.reports.run_summary import read_scores
from tests.one_line import expect_line

BUNDLE = Path(__file__).resolve().parents[2] / "bundles/lgg_attunet"
NARROW = {"network_def#channels": [4, 8, 8, 8, 8], "bundle_root": str(BUNDLE), "amp": False, "logging_file": False}


def configs(*names: str) -> list[str]:
    return [str(BUNDLE / "configs" / name) for name in names]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two networks that know nothing, each in its own way."""
    folder = tmp_path_factory.mktemp("folds")
    parser = ConfigParser(json.loads((BUNDLE / "configs/inference.json").read_text()))
    parser["network_def#channels"] = NARROW["network_def#channels"]
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(
            parser.get_parsed_content("network_def", instantiate=True, lazy=False).state_dict(), folder / f"{seed}.pt"
        )
    return [str(folder / f"{seed}.pt") for seed in (1, 2)]


def predict(image: Path, folder: Path, *overrides: str, **knobs: Any) -> np.ndarray:
    """Segment one slice and return its mask."""
    run(
        config_file=configs("inference.json", *overrides),
        **{**NARROW, "input": str(image), "output_dir": str(folder), "skip_largest_component": True, **knobs},
    )
    return np.asarray(Image.open(next(folder.glob("*/*_pred.tif"))))


def test_inference(lgg_phantom: Path, checkpoints: list[str], tmp_path: Path) -> None:
    image = next(path for path in sorted(lgg_phantom.glob("kaggle_3m/*/*_5.tif")))
    alone = [
        predict(image, tmp_path / f"alone{k}", checkpoint=path, threshold=0.5) for k, path in enumerate(checkpoints)
    ]
    assert not np.array_equal(*alone)
    options = {
        "forth": checkpoints,
        "back": checkpoints[::-1],
        "text": ",".join(checkpoints),
        "one": checkpoints[:1],
        "single": checkpoints[0],
    }
    found = {
        name: predict(image, tmp_path / name, "ensemble.json", checkpoints=given) for name, given in options.items()
    }
    assert np.array_equal(found["forth"], found["back"])
    assert np.array_equal(found["forth"], found["text"])
    assert np.array_equal(found["one"], alone[0])
    assert np.array_equal(found["single"], alone[0])
    assert not any(np.array_equal(found["forth"], mask) for mask in alone)


def test_a_missing_member_is_named_in_one_line(lgg_phantom: Path, checkpoints: list[str], tmp_path: Path) -> None:
    image = next(lgg_phantom.glob("kaggle_3m/*/*_5.tif"))
    with expect_line(r"no checkpoint at .*nope\.pt; name one with --checkpoints"):
        predict(image, tmp_path, "ensemble.json", checkpoints=[checkpoints[0], "nope.pt"])
    assert not list(tmp_path.rglob("*_pred.tif"))


def test_evaluation_by_the_same_override_under_another_id(
    lgg_phantom: Path, checkpoints: list[str], tmp_path: Path
) -> None:
    override = json.loads((BUNDLE / "configs/ensemble.json").read_text())
    override["validate#evaluator#inferer"] = {**override.pop("evaluator#inferer"), "inferer": "@validate#inferer"}
    (tmp_path / "ensemble.json").write_text(json.dumps(override))
    scores = []
    for order in (checkpoints, checkpoints[::-1]):
        run(
            config_file=[*configs("train.json", "evaluate.json"), str(tmp_path / "ensemble.json")],
            **NARROW,
            dataset_dir=str(lgg_phantom / "kaggle_3m"),
            manifest=str(lgg_phantom / "manifest.json"),
            output_dir=str(tmp_path / "scores"),
            checkpoints=order,
        )
        scores.append(read_scores(tmp_path / "scores/dice_patient_raw.csv"))
    assert scores[0] == pytest.approx(scores[1])
    assert all(np.isfinite(list(scores[0].values())))
