"""`read_run` and the report of it: subjects, epochs, policies, older folders, and what is refused in one line."""

import csv
import json
import math
import os

import pytest

from pipeline.commands.cli import main
from pipeline.issues import InputError
from pipeline.reports.run_summary import print_summary
from pipeline.runs import read_run
from pipeline.runs.tables import COLUMNS, add_columns, read_metrics, write_metrics
from pipeline.statistics.intervals import find_mean_interval

METRIC = "dice_patient"
SCORES = {f"{name}_{k}": 0.7 + 0.02 * number + 0.001 * k for number, name in enumerate("abcdefghijkl") for k in (1, 2)}


def write_run(folder, scores=SCORES, *, epoch=None, record=None, filename="run.json"):
    """A folder as `CaseMetricsSaver` and `RunRecord` leave it; the subject is the letter of the case."""
    folder.mkdir(exist_ok=True)
    raw = folder / f"{METRIC}_raw.csv"
    rows = "".join(f"{case},{score},{score}\n" for case, score in scores.items())
    raw.write_text(f"filename,class0,mean\n{rows}")
    add_columns(raw, [case[0] for case in scores], "patient")
    mean = sum(scores.values()) / len(scores)
    summary = read_run(folder).summaries[METRIC]
    values = {METRIC: mean, "dice_pooled": 0.5, "n_missed": 0.0}
    write_metrics(folder / "metrics.csv", values, {METRIC: summary}, epoch=epoch)
    if record is not None:
        (folder / filename).write_text(json.dumps(record))
    return folder


def edit(path, change):
    path.write_text(change(path.read_text()))


def test_read_run(tmp_path):
    run = read_run(write_run(tmp_path, record={"schema": 1, "seed": 3}, filename="evaluate.json"))
    summary = run.summaries[METRIC]
    assert (summary.n, summary.n_subjects, summary.n_ungrouped, summary.unit) == (24, 12, 0, "patient")
    interval = find_mean_interval(list(SCORES.values()), [case[0] for case in SCORES])
    assert (summary.low, summary.high) == pytest.approx((interval.low, interval.high))
    assert run.tables[METRIC].scores == SCORES
    assert run.tables[METRIC].subjects["c_2"] == "c"
    assert run.values == {"dice_pooled": 0.5, "n_missed": 0.0}
    assert (run.record["seed"], run.is_training, run.epoch) == (3, False, None)


def test_columns_are_documented():
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / "docs/reference/output-folder.md").read_text()
    assert [name for name in COLUMNS if f"`{name}`" not in text] == []


def test_metrics_csv_starts_with_the_columns_of_monai(tmp_path):
    write_run(tmp_path)
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = [row[:2] for row in csv.reader(stream)]
    assert rows[0] == ["metric", "value"]
    assert dict(rows[1:])["dice_pooled"] == "0.5"
    assert tuple(read_metrics(tmp_path / "metrics.csv")[METRIC]) == COLUMNS


def test_report_says_what_its_numbers_are(tmp_path, capsys):
    write_run(tmp_path)
    edit(
        tmp_path / "metrics.csv",
        lambda text: text.replace(",24,0,,,", ",24,0,2,1,").replace(",patient,,", ",patient,exclude,"),
    )
    assert print_summary(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "n: patients of 12 subjects" in lines
    assert "empty masks: policy exclude, 2 without truth, 1 missed" in lines
    assert lines[-1] == (
        "95 % interval, unit of resampling: subject; mean by Gaffke's bound and BCa bootstrap, 10000 resamples, seed 0"
    )
    assert "no interval: 12 subjects are too few for a 95 % interval of the median, at least 20 are needed" in lines
    run = read_run(tmp_path)
    assert (run.summaries[METRIC].n_empty, run.summaries[METRIC].n_missed) == (2, 1)


def test_too_few_patients_get_no_interval(tmp_path, capsys):
    write_run(tmp_path, {name: score for name, score in SCORES.items() if name[0] in "abc"})
    print_summary(tmp_path, as_json=True)
    entry = json.loads(capsys.readouterr().out)[0]
    assert (entry["low"], entry["high"]) == (None, None)
    assert entry["why_not"] == "3 subjects are too few for a 95 % interval of the mean, at least 10 are needed"


@pytest.mark.parametrize(
    ("epoch", "best", "line", "is_best"),
    [
        (4, 4, "scores of the validation after epoch 4, the best so far: those of model.pt", True),
        (4, None, "scores of the validation after epoch 4, the best so far: those of model.pt", None),
        (
            4,
            2,
            "scores of the validation after epoch 4, but model.pt is of epoch 2: for the scores of model.pt run",
            False,
        ),
        (
            None,
            2,
            "scores of the last validation of an older run; model.pt holds the best one: for the scores of",
            None,
        ),
    ],
)
def test_report_of_a_training_names_the_checkpoint(tmp_path, capsys, epoch, best, line, is_best):
    write_run(tmp_path, epoch=epoch, record={"best": best and {"epoch": best, "value": 0.8}})
    print_summary(tmp_path)
    assert capsys.readouterr().out.startswith(line)
    print_summary(tmp_path, as_json=True)
    entry = json.loads(capsys.readouterr().out)[0]
    assert (entry["epoch"], entry["is_best"]) == (epoch, is_best)


def test_folder_of_an_older_run(tmp_path, capsys):
    (tmp_path / f"{METRIC}_raw.csv").write_text(
        "filename,class0,mean\n" + "".join(f"{c},{s},{s}\n" for c, s in SCORES.items())
    )
    (tmp_path / "metrics.csv").write_text(f"{METRIC},{sum(SCORES.values()) / len(SCORES)}\ndice_pooled,0.5\n")
    assert print_summary(tmp_path) == 0
    out = capsys.readouterr().out
    assert "n: cases of 24 subjects, 24 without a known one, each counted for itself" in out
    assert "one value for all cases: dice_pooled 0.5000" in out
    assert read_run(tmp_path).record == {}


RAW = f"{METRIC}_raw.csv"


def damage(name, change):
    return lambda folder: edit(folder / name, change)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage(RAW, lambda t: t[: len(t) // 2]), "the last line has no end, so the file is cut off"),
        (
            damage(RAW, lambda t: "".join(t.splitlines(True)[:9])),
            "counts 24 cases, but dice_patient_raw.csv has 8,",
        ),
        (damage(RAW, lambda t: ""), "expected a table of scores with the columns filename and mean"),
        (damage(RAW, lambda t: t.replace(",a,patient\n", "\n", 1)), "line 2 has 3 of 5 columns"),
        (damage("metrics.csv", lambda t: t[:-8]), "metrics.csv: the last line has no end, so the file is cut off"),
        (
            damage("run.json", lambda t: t[:5]),
            "run.json: this is not the record of a run; delete it to",
        ),
        (lambda folder: (folder / "metrics.csv").write_bytes(b"\xff\xfe\x00"), "this is not a table, or it is cut off"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, capsys, spoil, message):
    folder = write_run(tmp_path / "run", record={"seed": 1})
    spoil(folder)
    assert main(["report", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {folder}")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["run", "run/metrics.csv", f"run/{METRIC}_raw.csv", "run/run.json"])
def test_no_permission(tmp_path, monkeypatch, name):
    folder = write_run(tmp_path / "run", record={})
    place = tmp_path / name
    if os.geteuid() == 0:  # may read everything
        method = "iterdir" if place.is_dir() else "read_text"
        original = getattr(type(place), method)

        def refuse(path, *args, **options):
            if path == place:
                raise PermissionError(13, "Permission denied", str(path))
            return original(path, *args, **options)

        monkeypatch.setattr(type(place), method, refuse)
    else:
        place.chmod(0)
    with pytest.raises(InputError, match="no permission to read") as caught:
        read_run(folder)
    assert str(caught.value).startswith(str(place))
    if os.geteuid() != 0:
        place.chmod(0o700)
        assert read_run(folder).summaries


def test_names_that_a_spreadsheet_would_compute(tmp_path):
    raw = tmp_path / "dice_raw.csv"
    raw.write_text("filename,class0,mean\n'=1+1,0.5,0.5\n")
    add_columns(raw, ["@SUM(1)"], "image")
    assert raw.read_text().splitlines()[1] == "'=1+1,0.5,0.5,'@SUM(1),image"
    assert read_run(tmp_path).tables["dice"].subjects == {"=1+1": "@SUM(1)"}


def test_values_of_any_kind_are_written(tmp_path):
    write_metrics(tmp_path / "metrics.csv", {"a": math.nan, "b": "tensor([1., 2.])", "c,d": 1.5}, {}, delimiter=",")
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [rows[name]["value"] for name in ("a", "b", "c,d")] == ["nan", "tensor([1., 2.])", "1.5"]
