"""CalibrationSaver: tables by case and over all cases, from an evaluator's post-processing."""

import json

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.transforms import AsDiscreted, Compose

from pipeline.handlers import CalibrationSaver, CaseMetricsSaver
from pipeline.metrics import LabelDice
from pipeline.runs import read_run
from pipeline.runs.tables import read_metrics
from pipeline.transforms import MeasureProbabilities, MeasureProbabilitiesd

DETAILS = ["dice_*", "brier_*", "ece_*", "doubt"]
NAMES = ("brier_all", "brier_band", "dice_image", "doubt", "ece_all", "ece_band")


def make_case(name, prob, *, label=True):
    """A square of truth whose probability is ``prob`` and that of the rest 0."""
    truth = torch.zeros(1, 40, 40)
    truth[0, 10:30, 10:30] = 1
    return {"case_id": name, "subject": f"p{name}", "image": truth * prob} | ({"label": truth} if label else {})


def evaluate(folder, cases, *, measure=True):
    steps = [MeasureProbabilitiesd("pred")] if measure else []
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(cases), batch_size=2),
        network=torch.nn.Identity(),
        postprocessing=Compose([*steps, AsDiscreted("pred", threshold=0.5)]),
        key_val_metric={
            "dice_image": IgniteMetricHandler(metric_fn=LabelDice(), output_transform=from_engine(["pred", "label"]))
        },
        val_handlers=[CalibrationSaver(folder), CaseMetricsSaver(folder, metric_details=DETAILS)],
    )
    evaluator.run()
    return evaluator


def test_each_case_and_all_together(tmp_path):
    """Squares of 400 voxels with p 0.85, 0.65 and 1; the rest with p 0 is right. The band of each is alike."""
    evaluate(tmp_path, [make_case("a", 0.85), make_case("b", 0.65), make_case("c", 1.0)])
    run = read_run(tmp_path)
    assert tuple(run.summaries) == NAMES
    assert run.tables["brier_all"].scores == pytest.approx({"a": 0.15**2 / 4, "b": 0.35**2 / 4, "c": 0.0}, abs=1e-4)
    assert run.tables["ece_all"].scores == pytest.approx({"a": 0.15 / 4, "b": 0.35 / 4, "c": 0.0}, abs=1e-4)
    # 1 pixel on both sides: 4 * 20 - 4 voxels inside and 4 * 20 + 4 outside.
    share = 76 / 160
    assert run.tables["ece_band"].scores == pytest.approx({"a": 0.15 * share, "b": 0.35 * share, "c": 0.0}, abs=1e-4)
    assert run.tables["doubt"].scores == pytest.approx({"a": 1 - 1.7 / 1.85, "b": 1 - 1.3 / 1.65, "c": 0.0}, abs=1e-4)
    assert run.tables["doubt"].subjects == {"a": "pa", "b": "pb", "c": "pc"}
    assert read_metrics(tmp_path / "metrics.csv")["ece_band"]["unit"] == "image"
    said = json.loads((tmp_path / "calibration.json").read_text())
    assert (said["schema"], said["cases"], len(said["tables"])) == (1, 3, 2)
    band = said["tables"][0]
    assert (band["class"], band["region"], band["voxels"]) == (1, "band", 480)
    assert [entry["count"] for entry in band["bins"]] == [252, 0, 0, 0, 0, 0, 76, 0, 76, 76]
    assert band["bins"][8] == {
        **{"low": 0.8, "high": 0.9, "count": 76, "observed": 1.0},
        "confidence": pytest.approx(0.85),
    }
    assert band["over_confidence"] == pytest.approx(-0.5 * share / 3)


def test_a_case_without_a_class_has_no_value_in_the_band(tmp_path):
    empty = make_case("empty", 0.0)
    empty["label"] = empty["label"] * 0
    evaluate(tmp_path, [make_case("a", 0.8), empty])
    summary = read_run(tmp_path).summaries["brier_band"]
    assert (summary.n, summary.n_missing) == (1, 1)
    assert read_run(tmp_path).tables["doubt"].scores["empty"] == 1  # an empty mask is looked at first


def test_an_evaluation_that_measures_nothing_has_the_old_tables(tmp_path):
    evaluator = evaluate(tmp_path, [make_case("a", 0.8)], measure=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dice_image_raw.csv", "metrics.csv"]
    assert list(evaluator.state.metrics) == ["dice_image"]


def test_doubt_of_several_classes_by_hand():
    """Class 1 is found with p 0.6 and a rest of 0.3, class 2 nowhere."""
    prob = torch.tensor([[[0.4, 0.6]], [[0.6, 0.3]], [[0.0, 0.1]]])
    assert MeasureProbabilities()(prob).item() == pytest.approx(((1 - 1.2 / 1.9) + 1) / 2)
