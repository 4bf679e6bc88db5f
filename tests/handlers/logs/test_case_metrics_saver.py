"""CaseMetricsSaver: tables with case ids, read back as written, never half written."""

import csv
import math

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric

from pipeline.handlers import CaseMetricsSaver
from pipeline.metrics import LabelDice, NonEmptySliceDice
from pipeline.runs.tables import COLUMNS, read_case_table, read_metrics, read_scores


def make_cases(names):
    """Case k predicts k + 1 pixels of 4, all true: Dice 2 (k + 1) / (k + 5); a name with "empty" has no truth."""
    cases = []
    for k, name in enumerate(names):
        image, label = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
        image.view(-1)[: k + 1] = 1
        cases.append({"case_id": name, "image": image, "label": label * ("empty" not in name)})
    return cases


def build_evaluator(folder, names, batch_size=1, **options):
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(make_cases(names)), batch_size=batch_size),
        network=torch.nn.Identity(),
        key_val_metric={
            "dice_patient": IgniteMetricHandler(
                metric_fn=DiceMetric(ignore_empty=True), output_transform=from_engine(["pred", "label"])
            )
        },
        val_handlers=[CaseMetricsSaver(folder, **options)],
    )


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("batch_size", [1, 2])
def test_table_read_back_names_the_cases(tmp_path, batch_size):
    names = ["TCGA_2", "TCGA_10", "a"]
    build_evaluator(tmp_path / "new" / "run", names, batch_size, metric_details="dice_patient").run()
    assert list_names(tmp_path / "new" / "run") == ["dice_patient_raw.csv", "metrics.csv"]
    scores = read_scores(tmp_path / "new" / "run" / "dice_patient_raw.csv")
    assert list(scores) == names
    assert list(scores.values()) == pytest.approx([2 / 5, 4 / 6, 6 / 7], abs=1e-4)
    row = read_metrics(tmp_path / "new" / "run" / "metrics.csv")["dice_patient"]
    assert float(row["value"]) == pytest.approx((2 / 5 + 4 / 6 + 6 / 7) / 3)
    assert (row["n"], row["unit"], row["empty_policy"], row["epoch"]) == ("3", "patient", "truth_only", "")


def test_any_name_survives(tmp_path):
    names = ["a,b", 'say "p"', "Müller 1", "x/y", "1;2"]
    build_evaluator(tmp_path, [*names[:3], names[3]], metric_details=["dice_patient"]).run()
    assert list(read_scores(tmp_path / "dice_patient_raw.csv")) == names[:4]
    build_evaluator(tmp_path, names[4:], metric_details=["dice_patient"], delimiter=";").run()
    assert (tmp_path / "dice_patient_raw.csv").read_text().splitlines()[1].startswith('"1;2";0.4')


def test_a_spreadsheet_computes_no_name(tmp_path):
    names = ["=HYPERLINK(1)", "+1-2", "@SUM(1,2)", "plain=1"]
    build_evaluator(tmp_path, names, metric_details=["dice_patient"]).run()
    with (tmp_path / "dice_patient_raw.csv").open(newline="") as stream:
        cells = [row[0] for row in csv.reader(stream)][1:]
    assert cells == ["'=HYPERLINK(1)", "'+1-2", "'@SUM(1,2)", "plain=1"]
    assert list(read_scores(tmp_path / "dice_patient_raw.csv")) == names


def test_case_without_a_value_is_nan(tmp_path):
    build_evaluator(tmp_path, ["a", "empty"], metric_details=["dice_patient"]).run()
    scores = read_scores(tmp_path / "dice_patient_raw.csv")
    assert scores["a"] == pytest.approx(0.4)
    assert math.isnan(scores["empty"])


def test_every_validation_starts_its_tables_afresh(tmp_path):
    evaluator = build_evaluator(tmp_path, ["a", "b"], metric_details=["dice_patient"])
    evaluator.run()
    evaluator.run()
    assert list(read_scores(tmp_path / "dice_patient_raw.csv")) == ["a", "b"]


def test_only_the_tables_asked_for(tmp_path):
    build_evaluator(tmp_path / "plain", ["a"]).run()
    assert list_names(tmp_path / "plain") == ["metrics.csv"]
    build_evaluator(tmp_path / "details", ["a"], metrics=None, metric_details="*", summary_ops="*").run()
    assert list_names(tmp_path / "details") == ["dice_patient_raw.csv", "dice_patient_summary.csv"]


def test_failing_writer_leaves_the_tables_of_the_last_validation(tmp_path, monkeypatch):
    evaluator = build_evaluator(tmp_path, ["a", "b"], metric_details=["dice_patient"])
    evaluator.run()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    written = []

    def write_half(save_dir, **options):
        path = f"{save_dir}/dice_patient_raw.csv"
        with open(path, "w") as stream:
            stream.write("filename,class0,mean\na,0.4")
        written.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("monai.handlers.metrics_saver.write_metrics_reports", write_half)
    with pytest.raises(OSError, match="No space left"):
        evaluator.run()
    assert len(written) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    monkeypatch.undo()
    evaluator.run()
    assert list_names(tmp_path) == ["dice_patient_raw.csv", "metrics.csv"]


def test_first_validation_that_fails_leaves_no_table(tmp_path, monkeypatch):
    def fail(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr("monai.handlers.metrics_saver.write_metrics_reports", fail)
    with pytest.raises(KeyboardInterrupt):
        build_evaluator(tmp_path, ["a"]).run()
    assert list_names(tmp_path) == []


def test_tables_can_be_read_by_colleagues(tmp_path):
    build_evaluator(tmp_path, ["a"], metric_details="*").run()
    other = tmp_path / "other"
    other.write_text("")
    assert {path.stat().st_mode for path in tmp_path.glob("*.csv")} == {other.stat().st_mode}


def evaluate(folder, masks, metrics, **options):
    """Evaluate cases whose prediction and label are given by id, of the subject that is the id's first letter."""
    cases = [
        {"case_id": name, "subject": name[0].replace("-", ""), "image": pred, "label": label}
        for name, (pred, label) in masks.items()
    ]
    handlers = {
        name: IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["pred", "label"]))
        for name, metric in metrics.items()
    }
    first = next(iter(handlers))
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(cases), batch_size=1),
        network=torch.nn.Identity(),
        key_val_metric={first: handlers.pop(first)},
        additional_metrics=handlers,
        val_handlers=[CaseMetricsSaver(folder, **options)],
    )
    evaluator.run()
    return evaluator


SOME, NONE = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
FOUR = {"a1": (SOME, SOME), "a2": (NONE, SOME), "b1": (SOME, NONE), "-1": (NONE, NONE)}


@pytest.mark.parametrize(
    ("metric", "policy", "value", "counts"),
    [
        (LabelDice(), "exclude", 1 / 3, ("3", "1", "2", "1", "2")),
        (LabelDice(empty_policy="perfect"), "perfect", 1 / 2, ("4", "0", "2", "1", "3")),
        (DiceMetric(ignore_empty=False), "perfect", 1 / 2, ("4", "0", "2", "1", "3")),
        (DiceMetric(ignore_empty=True), "truth_only", 1 / 2, ("2", "2", "2", "1", "1")),
    ],
)
def test_counts_and_policy_of_empty_masks(tmp_path, metric, policy, value, counts):
    evaluate(tmp_path, FOUR, {"dice_patient": metric}, metric_details="dice_patient")
    row = read_metrics(tmp_path / "metrics.csv")["dice_patient"]
    assert tuple(row) == COLUMNS
    assert (row["empty_policy"], float(row["value"])) == (policy, pytest.approx(value))
    assert tuple(row[name] for name in ("n", "n_missing", "n_empty", "n_missed", "n_subjects")) == counts
    assert row["low"] == row["high"] == ""
    assert row["method"].startswith("none: ")


def test_tables_name_the_subject_and_the_unit(tmp_path):
    evaluate(tmp_path, FOUR, {"dice_image": LabelDice(), "iou": LabelDice()}, metric_details="*")
    for name in ("dice_image", "iou"):
        table = read_case_table(tmp_path / f"{name}_raw.csv")
        assert table.subjects == {"a1": "a", "a2": "a", "b1": "b", "-1": ""}
        assert table.unit == "image"
    with (tmp_path / "iou_raw.csv").open() as stream:
        assert stream.readline() == "filename,class0,mean,subject,unit\n"


def test_statistics_by_hand(tmp_path):
    half = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    masks = {f"{name}1": (SOME if place % 2 else half, SOME) for place, name in enumerate("abcdefghijkl")}
    evaluate(tmp_path, masks, {"dice_patient": LabelDice()}, metric_details="dice_patient")
    row = read_metrics(tmp_path / "metrics.csv")["dice_patient"]
    assert (float(row["median"]), float(row["q1"]), float(row["q3"])) == pytest.approx((5 / 6, 2 / 3, 1), abs=1e-5)
    assert float(row["sd"]) == pytest.approx((1 / 6) * (12 / 11) ** 0.5, abs=1e-5)
    assert 0.5 < float(row["low"]) < float(row["value"]) < float(row["high"]) < 1
    assert (float(row["median_low"]), float(row["median_high"])) == pytest.approx((2 / 3, 1), abs=1e-5)
    assert row["method"] == "Gaffke's bound and BCa bootstrap"


def test_metrics_whose_rows_are_not_cases_have_only_a_value(tmp_path):
    stack = torch.zeros(1, 2, 2, 3)
    stack[..., :2] = 1
    evaluate(tmp_path, {"a": (stack, stack)}, {"dice_patient": LabelDice(), "dice_slice_nonempty": NonEmptySliceDice()})
    rows = read_metrics(tmp_path / "metrics.csv")
    assert (rows["dice_patient"]["n"], rows["dice_slice_nonempty"]["n"]) == ("1", "")
    assert float(rows["dice_slice_nonempty"]["value"]) == 1


def test_a_training_keeps_the_tables_of_its_best_validation(tmp_path):
    """Each validation is marked as `TrainingCheckpoint` marks it, after the saver was attached."""
    evaluator = build_evaluator(tmp_path, ["a", "b"], metric_details=["dice_patient"])
    marks = {1: (False, -1), 2: (True, 2), 3: (False, 2), 4: (True, 4), 5: (False, 4)}

    def mark(engine):
        engine.state.is_best, engine.state.best_metric_epoch = marks[engine.state.epoch]

    evaluator.add_event_handler(Events.COMPLETED, mark)
    seen = []
    for epoch in marks:
        evaluator.run(epoch)
        seen.append(read_metrics(tmp_path / "metrics.csv")["dice_patient"]["epoch"])
    assert seen == ["1", "2", "2", "4", "4"]
