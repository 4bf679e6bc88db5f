"""CaseMetricsSaver: tables with case ids, read back as written, never half written."""

import csv
import math

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric

from pipeline.handlers import CaseMetricsSaver
from pipeline.reports.run_summary import read_scores


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
    name, value = (tmp_path / "new" / "run" / "metrics.csv").read_text().strip().split(",")
    assert name == "dice_patient"
    assert float(value) == pytest.approx((2 / 5 + 4 / 6 + 6 / 7) / 3)


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
