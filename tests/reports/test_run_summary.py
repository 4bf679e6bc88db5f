"""Summaries of scores: by hand, intervals that cover, tables that are read or refused."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.issues import InputError
from pipeline.reports.run_summary import print_summary, read_scores, read_values, summarize

NAN = float("nan")


def write_table(path, scores):
    lines = [f"{case},{score},{score}" for case, score in scores.items()]
    path.write_text("\n".join(["filename,class0,mean", *lines, ""]))
    return path


def test_hand_table():
    result = summarize("dice", {"a": 0.5, "b": 0.0, "c": 1.0, "d": NAN, "e": 0.9})
    assert (result.metric, result.n, result.n_missing, result.n_zero, result.worst) == ("dice", 4, 1, 1, ("b", 0.0))
    assert (result.mean, result.median) == pytest.approx((0.6, 0.7))
    assert result.sd == pytest.approx(math.sqrt((0.01 + 0.36 + 0.16 + 0.09) / 3))


def test_single_case_has_no_interval():
    result = summarize("dice", {"a": 0.25})
    assert (result.n, result.mean, result.median, result.worst) == (1, 0.25, 0.25, ("a", 0.25))
    assert (result.low, result.high, result.median_low, result.sd) == (None, None, None, None)
    assert result.why_not == "1 subject is too few for a 95 % interval of the mean, at least 10 are needed"


def test_quartiles():
    result = summarize("dice", {str(k): k / 10 for k in range(11)})
    assert (result.q1, result.median, result.q3) == pytest.approx((0.25, 0.5, 0.75))


def test_cases_of_a_subject_are_not_independent():
    scores = {f"{name}{k}": 0.5 + 0.04 * number for number, name in enumerate("abcdefghijkl") for k in range(6)}
    people = {case: f" {case[0].upper()} " if case.endswith("1") else case[0] for case in scores}
    alone, grouped = summarize("dice", scores), summarize("dice", scores, people)
    assert (alone.n, alone.n_subjects, alone.n_ungrouped) == (72, 72, 72)
    assert (grouped.n, grouped.n_subjects, grouped.n_ungrouped) == (72, 12, 0)
    assert grouped.low < alone.low
    assert grouped.high > alone.high
    assert alone.median_low is not None
    assert grouped.median_why_not.startswith("12 subjects are too few for a 95 % interval of the median")


def test_a_case_without_a_subject_is_one():
    scores = dict.fromkeys("abcdefghijkl", 0.9)
    result = summarize("dice", scores, {"a": "p", "b": "p", "c": "n/a", "d": ""})
    assert (result.n_subjects, result.n_ungrouped) == (11, 10)


def test_a_mean_distance_has_no_interval_but_its_median_has_one():
    result = summarize("hd95_volume", {str(k): 0.01 * k for k in range(30)})
    assert result.low is None
    assert result.why_not == "the mean of a quantity without an upper limit has no interval that holds: use the median"
    assert 0.05 < result.median_low < result.median < result.median_high < 0.24


def test_infinite_distance_counts_as_missing():
    result = summarize("distance", {"a": 2.0, "b": math.inf, "c": 4.0})
    assert (result.n, result.n_missing, result.mean) == (2, 1, 3.0)


@pytest.mark.parametrize("scores", [{}, {"a": NAN}, {"a": NAN, "b": NAN}])
def test_no_value_at_all_is_an_error(scores):
    with pytest.raises(ValueError, match="dice: no case has a value"):
        summarize("dice", scores)


def test_intervals_are_reproducible_and_depend_on_the_seed():
    scores = {str(k): float(value) for k, value in enumerate(np.random.default_rng(0).random(19))}
    assert summarize("dice", scores) == summarize("dice", scores)
    assert summarize("dice", scores, seed=1).low != summarize("dice", scores, seed=2).low


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=10, max_size=20))
def test_order_of_the_numbers(values):
    result = summarize("dice", {str(k): value for k, value in enumerate(values)}, resamples=500)
    assert -1e-9 <= result.low <= result.mean + 1e-9
    assert result.mean - 1e-9 <= result.high <= 1 + 1e-9
    assert min(values) <= result.median_low <= result.median <= result.median_high <= max(values)
    assert result.worst[1] == min(values)
    assert result.n_zero == values.count(0)


def test_read_scores(tmp_path):
    table = write_table(tmp_path / "dice_raw.csv", {"p 1": 0.5, "b/2": "nan", "é": 1.0})
    scores = read_scores(table)
    assert list(scores) == ["p 1", "b/2", "é"]
    assert (scores["p 1"], scores["é"], math.isnan(scores["b/2"])) == (0.5, 1.0, True)


def test_several_classes_are_averaged_by_the_table(tmp_path):
    (tmp_path / "t.csv").write_text('filename,class0,class1,mean\n"a,b",0.2,0.6,0.4\n')
    assert read_scores(tmp_path / "t.csv") == {"a,b": 0.4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a table of scores with the columns filename and mean"),
        ("filename,class0,mean\n", "expected a table of scores"),
        ("filename,class0\na,0.5\n", "expected a table of scores"),
        ("case,mean\na,0.5\n", "expected a table of scores"),
        ("filename,class0,mean\na,0.5,0.5\nb,0.5\n", "line 3 has 2 of 3 columns, so the file is cut off; run evaluate"),
        (
            "filename,class0,mean\na,0.5,0.5\nb,0.5,0.4",
            "the last line has no end, so the file is cut off; run evaluate",
        ),
        ('filename,mean\n"a,0.5\n', "this is not a table, or it is cut off; run evaluate.json again"),
        ("filename,class0,mean\na,0.5,high\n", "the score of a is 'high', expected a number"),
        ("filename,mean\na,0.5\na,0.6\n", "a occurs twice, expected one line per case"),
    ],
)
def test_other_tables_are_refused(tmp_path, text, message):
    path = tmp_path / "dice_raw.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_scores(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.fixture
def run_folder(tmp_path):
    write_table(tmp_path / "dice_patient_raw.csv", {"a": 0.5, "b": 0.0, "c": "nan"})
    write_table(tmp_path / "hd95_raw.csv", {"a": 2.0})
    (tmp_path / "metrics.csv").write_text("dice_patient,0.25\n")
    return tmp_path


def test_printed_table(run_folder, capsys):
    assert print_summary(run_folder) == 0
    out, err = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]
    interval = "95 % interval"
    assert rows[0] == [*("metric", "n", "missing", "mean", interval, "median", interval, "sd", "zeros", "worst case")]
    assert rows[1] == ["dice_patient", "2", "1", "0.250", "-", "0.250", "-", "0.354", "1", "0.000 b"]
    assert rows[2] == ["hd95", "1", "0", "2.000", "-", "2.000", "-", "-", "-", "2.000 a"]
    assert out.splitlines()[3:] == [
        "n: cases of 2 subjects, 2 without a known one, each counted for itself: if several are of one patient, "
        "the intervals are too narrow (dice_patient)",
        "empty masks: not recorded",
        "no interval: 2 subjects are too few for a 95 % interval of the mean, at least 10 are needed (dice_patient)",
        "no interval: 2 subjects are too few for a 95 % interval of the median, at least 6 are needed (dice_patient)",
        "n: cases of 1 subject, 1 without a known one, each counted for itself: if several are of one patient, "
        "the intervals are too narrow (hd95)",
        "no interval: the mean of a quantity without an upper limit has no interval that holds: use the median (hd95)",
        "no interval: 1 subject is too few for a 95 % interval of the median, at least 6 are needed (hd95)",
    ]
    assert {line.index("0.250" if "dice" in line else "2.000") for line in out.splitlines()[1:3]} == {
        out.splitlines()[0].index("mean")
    }
    assert err == ""


def test_json(run_folder, capsys):
    assert print_summary(str(run_folder), as_json=True) == 0
    first, second = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (first["metric"], first["n"], first["n_missing"], first["n_zero"]) == ("dice_patient", 2, 1, 1)
    assert (first["low"], first["mean"], first["n_subjects"], first["worst"]) == (None, 0.25, 2, ["b", 0.0])
    assert second["metric"] == "hd95"
    assert (second["mean"], second["median"], second["sd"], second["worst"]) == (2.0, 2.0, None, ["a", 2.0])
    assert "epoch" not in first


def test_metric_without_a_value_does_not_hide_the_others(run_folder, capsys):
    write_table(run_folder / "lesion_raw.csv", {"a": "nan"})
    assert print_summary(run_folder, as_json=True) == 0
    out, err = capsys.readouterr()
    assert [entry["metric"] for entry in json.loads(out)] == ["dice_patient", "hd95"]
    assert err == "lesion: no case has a value\n"


def test_no_metric_with_a_value_is_an_error(tmp_path):
    write_table(tmp_path / "dice_raw.csv", {"a": "nan"})
    with pytest.raises(InputError, match=r"no case has a value in dice_raw\.csv"):
        print_summary(tmp_path)


def test_folder_without_tables(tmp_path):
    with pytest.raises(InputError, match=r"holds no <metric>_raw\.csv; run evaluate\.json"):
        print_summary(tmp_path)


@pytest.mark.parametrize(
    ("metric", "worst"),
    [
        ("dice", "low"),
        ("hd_image", "high"),
        ("hd95_posterior", "high"),
        ("posterior_hd95", "high"),
        ("assd", "high"),
        ("val_loss", "high"),
        ("nsd_1mm_anterior", "low"),
        ("shade", "low"),
        ("thd_dice", "low"),
    ],
)
def test_worst_distance_is_the_largest(metric, worst):
    assert summarize(metric, {"low": 0.25, "high": 0.75}).worst[0] == worst


def test_values_of_metrics(tmp_path):
    lines = ["a,0.5", "b,tensor([1., 2.])", "c,nan", "d", "", "n_missed,3.0", ""]
    for header in ([], ["metric,value"]):
        rows = [line for line in lines[:-1] if not header or line not in ("d", "", lines[1])]
        (tmp_path / "metrics.csv").write_text("\n".join([*header, *rows, ""]))
        values = read_values(tmp_path / "metrics.csv")
        assert list(values) == ["a", "c", "n_missed"]
        assert (values["a"], math.isnan(values["c"]), values["n_missed"]) == (0.5, True, 3.0)
    assert read_values(tmp_path / "none.csv") == {}


@pytest.fixture
def mixed_folder(tmp_path):
    """Two metrics by case, three pooled ones of which two have tables, two counts, and one without any value."""
    write_table(tmp_path / "dice_image_raw.csv", {"a": 0.9, "b": 0.3})
    write_table(tmp_path / "hd95_raw.csv", {"a": 0.0, "b": 9.0})
    write_table(tmp_path / "dice_pooled_raw.csv", {"a": 0.9, "b": 0.3})
    write_table(tmp_path / "pixel_accuracy_raw.csv", {"a": 0.99, "b": 0.95})
    write_table(tmp_path / "n_missed_raw.csv", {"a": 0.0, "b": 0.0})
    write_table(tmp_path / "lesion_raw.csv", {"a": "nan", "b": "nan"})
    lines = ["dice_image,0.6", "hd95,4.5", "dice_pooled,0.6", "pixel_accuracy,0.9793", "background_accuracy,0.9601"]
    lines += ["n_empty_gt,1.0", "n_missed,0.0", "lesion,0.0", "iou_pooled,nan"]
    (tmp_path / "metrics.csv").write_text("\n".join([*lines, ""]))
    return tmp_path


def test_metrics_that_are_not_means_over_cases_are_printed_as_one_value(mixed_folder, capsys):
    assert print_summary(mixed_folder) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["dice_image", "hd95"]
    assert lines[2].split()[-3:] == ["-", "9.000", "b"]
    assert lines[3] == (
        "one value for all cases: dice_pooled 0.6000, pixel_accuracy 0.9793, background_accuracy 0.9601, iou_pooled nan"
    )
    assert lines[4] == "cases: n_empty_gt 1, n_missed 0"
    assert err == "lesion: no case has a value\n"


def test_json_of_single_values(mixed_folder, capsys):
    assert print_summary(mixed_folder, as_json=True) == 0
    entries = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [entry["metric"] for entry in entries[:2]] == ["dice_image", "hd95"]
    assert entries[2:] == [
        {"metric": "dice_pooled", "value": 0.6},
        {"metric": "pixel_accuracy", "value": 0.9793},
        {"metric": "background_accuracy", "value": 0.9601},
        {"metric": "n_empty_gt", "value": 1.0},
        {"metric": "n_missed", "value": 0.0},
        {"metric": "iou_pooled", "value": None},
    ]


def test_folder_with_single_values_only(tmp_path, capsys):
    (tmp_path / "metrics.csv").write_text("dice_pooled,0.875\n")
    assert print_summary(tmp_path) == 0
    assert capsys.readouterr().out == "one value for all cases: dice_pooled 0.8750\n"


def test_rounding_of_a_table_makes_no_other_metric(tmp_path, capsys):
    write_table(tmp_path / "dice_raw.csv", {"a": 0.3333, "b": 0.6667, "c": 0.1111})
    (tmp_path / "metrics.csv").write_text(f"dice,{(1 / 3 + 2 / 3 + 1 / 9) / 3}\n")
    assert print_summary(tmp_path) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["dice", "3", "0", "0.370"]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("")])
def test_no_folder(tmp_path, make):
    make(tmp_path / "run")
    with pytest.raises(InputError, match="run is not a folder; expected the output_dir"):
        print_summary(tmp_path / "run")
