"""Out-of-fold scores of all folds as one run: values by hand, what cannot be merged, pictures, reports of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.commands.cli import main
from pipeline.crossval.fold_tables import merge_tables
from pipeline.issues import InputError
from pipeline.runs.run_folder import Run, read_run
from pipeline.runs.tables import read_metrics, write_metrics
from tests.run_folders import write_run


def write_folds(folder: Path, *folds: dict[str, float], **options: object) -> dict[int, Run]:
    return {k: read_run(write_run(folder / f"fold_{k}/evaluate", scores, **options)) for k, scores in enumerate(folds)}


def test_values_by_hand(tmp_path: Path) -> None:
    target = tmp_path / "merged"
    target.mkdir()
    runs = write_folds(tmp_path, {"a": 0.5, "b": float("nan")}, {"c": 0.9, "d": 0.7, "e": 0.0})
    values = merge_tables(runs, target)
    # NaN is no score; n_missed is 1 in each fold.
    assert values == {"dice_image": pytest.approx((0.5 + 0.9 + 0.7 + 0.0) / 4), "n_missed": 2.0}
    row = read_metrics(target / "metrics.csv")["dice_image"]
    assert (row["n"], row["n_missing"], row["n_subjects"], row["unit"]) == ("4", "1", "4", "image")
    assert float(row["sd"]) == pytest.approx(np.std([0.5, 0.9, 0.7, 0.0], ddof=1), rel=1e-5)
    with (target / "dice_image_raw.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(one["filename"], one["mean"], one["subject"], one["fold"]) for one in rows] == [
        ("a", "0.5", "pa", "0"),
        ("b", "nan", "pb", "0"),
        ("c", "0.9", "pc", "1"),
        ("d", "0.7", "pd", "1"),
        ("e", "0.0", "pe", "1"),
    ]


def test_counts_of_empty_masks_are_sums_and_pooled_values_are_left_out(tmp_path: Path) -> None:
    runs = {}
    for fold, scores in enumerate(({"a": 0.5}, {"b": 0.7, "c": 0.8})):
        folder = write_run(tmp_path / f"{fold}", scores)
        summaries = dict(read_run(folder).summaries.items())
        for name in ("n_empty", "n_missed"):
            object.__setattr__(summaries["dice_image"], name, fold + 1)
        mean = summaries["dice_image"].mean
        # A mean without a table of cases, and a value over all pixels.
        write_metrics(
            folder / "metrics.csv",
            {"dice_image": mean, "iou_image": 0.25 * (fold + 1), "dice_pooled": 0.6},
            {**summaries, "iou_image": summaries["dice_image"]},
        )
        runs[fold] = read_run(folder)
    (tmp_path / "merged").mkdir()
    values = merge_tables(runs, tmp_path / "merged")
    assert values == {"dice_image": pytest.approx(2 / 3), "iou_image": pytest.approx((0.25 + 2 * 0.5) / 3)}
    row = read_metrics(tmp_path / "merged/metrics.csv")["dice_image"]
    assert (row["n_empty"], row["n_missed"]) == ("3", "3")


def test_a_value_of_all_objects_does_not_become_a_mean_over_frames(tmp_path: Path) -> None:
    """SEG is the mean over cells; its table is by frame, and frames have different numbers of cells."""
    runs = {}
    for fold, (scores, value) in enumerate((({"a": 0.5, "b": 0.9}, 0.6), ({"c": 0.7, "d": 0.8}, 0.71))):
        folder = write_run(tmp_path / f"{fold}", scores, metric="seg", unit="frame")
        write_metrics(folder / "metrics.csv", {"seg": value}, {})
        runs[fold] = read_run(folder)
        assert runs[fold].values == {"seg": value}
    (tmp_path / "merged").mkdir()
    assert merge_tables(runs, tmp_path / "merged") == {}
    merged = read_run(tmp_path / "merged")
    assert (merged.summaries, merged.values, list(merged.tables)) == ({}, {}, ["seg"])


@pytest.mark.parametrize(
    ("second", "subjects", "found"),
    [
        ({"b": 0.7}, {"b": "PA "}, "subject PA  is in the folds 0 and 1"),
        ({"a": 0.7}, {"a": "other"}, "case a is in the folds 0 and 1"),
    ],
)
def test_nothing_counts_twice(tmp_path: Path, second: dict[str, float], subjects: dict[str, str], found: str) -> None:
    first = read_run(write_run(tmp_path / "0", {"a": 0.5}))
    run = read_run(write_run(tmp_path / "1", second, subjects=subjects))
    with pytest.raises(InputError, match=f"1/dice_image_raw.csv: {found}, so it would count twice"):
        merge_tables({0: first, 1: run}, tmp_path)


def test_cases_of_unknown_subjects_are_not_one_subject(tmp_path: Path) -> None:
    runs = {
        fold: read_run(write_run(tmp_path / f"{fold}", {case: 0.5}, subjects={case: ""}))
        for fold, case in enumerate("ab")
    }
    assert merge_tables(runs, tmp_path)["dice_image"] == 0.5


def test_other_metrics(tmp_path: Path) -> None:
    first = read_run(write_run(tmp_path / "0/evaluate", {"a": 0.5}))
    run = read_run(write_run(tmp_path / "1/evaluate", {"b": 0.5}, metric="iou_image"))
    with pytest.raises(InputError, match=r"1/evaluate has other metrics than .*0/evaluate; delete .*/1 to run fold 1"):
        merge_tables({0: first, 1: run}, tmp_path)


RECORD = {
    "of": 3,
    "never_scored": 4,
    "folds": [
        {"fold": k, "n_cases": 6, "epochs": 7, "max_epochs": 9, "best_epoch": 5, "ended": ("time", "early stop")[k]}
        | {"metrics": {"dice_image": 0.6 + k / 10, "dice_pooled": 0.5, "n_missed": 2.0, "other": None}}
        for k in range(2)
    ],
}


def test_the_page_shows_the_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", {f"c{k}": 0.5 + k / 20 for k in range(12)}, crossval=RECORD)
    for name in ("page.html", "page.md", "page.json"):
        assert main(["report", str(folder), "-o", str(tmp_path / name)]) == 0
    page = (tmp_path / "page.html").read_text()
    section = page[page.index('<section id="r1-folds">') :]
    section = section[: section.index("</section>")]
    for text in (">fold 0<", ">0.600<", ">0.700<", "7 of 9, 5; time was over", "7 of 9, 5; early stop"):
        assert text in section
    assert "n_missed" not in section
    assert "other" not in section
    notes = [
        "cross-validation, 2 of 3 folds: only the cases of these were scored: 0, 1, by a network that was not trained",
        "4 cases are in no fold: trainings used them, and they were not scored",
        "the time of the training was over before its last epoch in these folds: 0",
    ]
    assert all(note in page for note in notes)
    spread = json.loads((tmp_path / "page.json").read_text())[0]["folds"]
    assert spread["rows"][0] == {"metric": "dice_image", "values": [0.6, 0.7], "low": 0.6, "high": 0.7}
    assert [row["metric"] for row in spread["rows"]] == ["dice_image", "dice_pooled"]
    assert "| dice_image | 0.600 | 0.700 | 0.600 | 0.700 |" in (tmp_path / "page.md").read_text().replace("\\", "")
    capsys.readouterr()
    assert main(["report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "means of the folds: dice_image 0.600 to 0.700\n" in out
    assert all(note in out for note in notes)


def test_the_page_of_another_run_has_no_such_section(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"a": 0.5}, crossval="nonsense")
    for name in ("page.html", "page.md"):
        assert main(["report", str(folder), "-o", str(tmp_path / name)]) == 0
        assert "Folds" not in (tmp_path / name).read_text()
