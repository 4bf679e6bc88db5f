"""One prediction scored in all units: the numbers differ as computed by hand, from evaluator to report."""

import json

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine

from pipeline.handlers import CaseMetricsSaver
from pipeline.metrics import (
    BackgroundAccuracy,
    CaseCount,
    LabelDice,
    LabelIoU,
    NonEmptySliceDice,
    PixelAccuracy,
    PooledDice,
    PooledIoU,
    ThresholdedJaccard,
)
from pipeline.reports.run_summary import print_summary

# Two patients of two slices of 2 x 2 pixels. Patient a: 2 of 4 pixels found, and 1 false one in a slice without truth.
# Patient b: the pixel of the first slice found, that of the second missed.
TRUTH = {"a": [[1, 1, 1, 1], [0, 0, 0, 0]], "b": [[1, 0, 0, 0], [0, 1, 0, 0]]}
PRED = {"a": [[1, 1, 0, 0], [1, 0, 0, 0]], "b": [[1, 0, 0, 0], [0, 0, 0, 0]]}

VOLUMES = {
    "dice_patient": (LabelDice(), (4 / 7 + 2 / 3) / 2),
    "dice_slice_nonempty": (NonEmptySliceDice(), (2 / 3 + 1 + 0) / 3),
    "iou_patient": (LabelIoU(), (2 / 5 + 1 / 2) / 2),
    "dice_pooled": (PooledDice(), 6 / 10),
    "iou_pooled": (PooledIoU(), 3 / 7),
    "jaccard_65": (ThresholdedJaccard(), 0),
    "jaccard_45": (ThresholdedJaccard(0.45), 1 / 4),
    "pixel_accuracy": (PixelAccuracy(), 12 / 16),
    "background_accuracy": (BackgroundAccuracy(), 10 / 16),
    "n_empty_gt": (CaseCount("empty_gt"), 0),
    "n_missed": (CaseCount("missed"), 0),
}
SLICES = {
    "dice_image": (LabelDice(), (2 / 3 + 0 + 1 + 0) / 4),
    "dice_image_truth_only": (LabelDice(empty_policy="truth_only"), (2 / 3 + 1 + 0) / 3),
    "dice_pooled": (PooledDice(), 6 / 10),
    "n_empty_gt": (CaseCount("empty_gt"), 1),
    "n_missed": (CaseCount("missed"), 1),
}


def make_cases(by_slice):
    cases = []
    for name in TRUTH:
        truth, pred = (torch.tensor(item[name]).float().reshape(2, 2, 2).movedim(0, -1)[None] for item in (TRUTH, PRED))
        if by_slice:
            pairs = zip(pred.unbind(-1), truth.unbind(-1), strict=True)
            cases += [{"case_id": f"{name}{k}", "image": p, "label": t} for k, (p, t) in enumerate(pairs)]
        else:
            cases.append({"case_id": name, "image": pred, "label": truth})
    return cases


def evaluate(folder, metrics, cases):
    handlers = {
        name: IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "label"]))
        for name, (metric, _) in metrics.items()
    }
    first = next(iter(handlers))
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(cases), batch_size=1),
        network=torch.nn.Identity(),
        key_val_metric={first: handlers.pop(first)},
        additional_metrics=handlers,
        val_handlers=[CaseMetricsSaver(folder, metric_details=[n for n in metrics if n != "dice_slice_nonempty"])],
    )
    evaluator.run()
    return evaluator.state.metrics


@pytest.mark.parametrize(("metrics", "by_slice"), [(VOLUMES, False), (SLICES, True)], ids=["volumes", "slices"])
def test_each_unit_has_its_own_number(tmp_path, capsys, metrics, by_slice):
    found = evaluate(tmp_path, metrics, make_cases(by_slice))
    expected = {name: value for name, (_, value) in metrics.items()}
    assert found == pytest.approx(expected, abs=1e-6)

    assert print_summary(tmp_path, as_json=True) == 0
    entries = {entry["metric"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {name: entry.get("mean", entry.get("value")) for name, entry in entries.items()} == pytest.approx(
        expected, abs=1e-4
    )
    means = {"dice_patient", "iou_patient", "jaccard_65", "jaccard_45", "dice_image", "dice_image_truth_only"}
    accuracies = {"pixel_accuracy", "background_accuracy"}  # the mean over cases too, for these are of one size
    assert {name for name, entry in entries.items() if "mean" in entry} == (means | accuracies) & set(metrics)


def test_report_of_volumes(tmp_path, capsys):
    evaluate(tmp_path, VOLUMES, make_cases(by_slice=False))
    print_summary(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[7:9] == [
        "one value for all cases: dice_slice_nonempty 0.5556, dice_pooled 0.6000, iou_pooled 0.4286",
        "cases: n_empty_gt 0, n_missed 0",
    ]
