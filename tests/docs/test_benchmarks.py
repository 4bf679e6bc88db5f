"""The page of benchmarks says what the kept records say; scripts and records have one form."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.clocks import take_turns
from benchmarks.records import Row, build_record, check_record, describe_command, read_record, write_record
from tests.docs import benchmarks
from tests.docs.benchmarks import OTHERS, RECORDS, list_scripts, read_records, render_benchmarks, render_charts
from tests.docs.charts import Bar, draw_bars, draw_curves
from tests.docs.markdown import ROOT, list_rows, read_text

ROW = Row("256 x 256", "peer 1.0", 3.0, 2.0, goal=1.4, spread=(1.2, 1.6), accuracy="equal")


def make_record(*rows: Row, script: str = "resizing") -> dict[str, object]:
    return build_record(script, "A title", "ms", rows or [ROW])


@pytest.mark.parametrize("script", list_scripts())
def test_every_script_leaves_a_record(script: str) -> None:
    text = read_text(f"benchmarks/{script}.py")
    assert '"--json"' in text, "a script that measures speed or memory has --json FILE"
    assert "write_record(" in text or '"schema"' in text, "--json writes a record, see benchmarks/records.py"


def test_the_list_of_other_scripts_is_not_out_of_date() -> None:
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} >= OTHERS


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_every_record_belongs_to_a_script_and_to_no_machine(path: Path) -> None:
    record = read_record(path)
    assert record["script"] in list_scripts()
    assert path.stem == record["script"] or path.stem.startswith(f"{record['script']}_")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|root|tmp|mnt|work|data|media|Users)/|~/", text)


def test_charts_are_up_to_date() -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in RECORDS.glob("*.svg")}
    assert kept == render_charts(), "run: make docs"


def test_the_page_has_every_row_and_every_goal() -> None:
    page = render_benchmarks()
    rows = [row for record in read_records().values() for row in record["rows"]]
    cells = [line for line in page.splitlines() if line.startswith("| ")]
    assert all(any(row["what"] in line and row["peer"] in line for line in cells) for row in rows)
    goals = list_rows("\n" + page, "what")
    assert len(goals) == sum(row["goal"] is not None for row in rows)


def test_missed_goals_and_rows_without_a_claim_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        ROW,
        Row("missed", "peer", 3.0, 3.0, goal=1.5),
        Row("wrong", "peer", 9.0, 1.0, goal=2.0, accuracy="labels equal 0.8", counts=False),
        Row("on a GPU", "peer", None, None, goal=2.0, note="not measured: no GPU"),
    )
    write_record(tmp_path / "resizing.json", make_record(*rows))
    monkeypatch.setattr(benchmarks, "read_records", lambda: read_records(tmp_path))
    page = render_benchmarks()
    assert "1 of 4 goals are reached" in page
    goals = {cells[0].split(": ")[-1]: cells[-1] for cells in list_rows("\n" + page, "what")}
    assert goals == {
        "256 x 256": "yes",
        "missed": "**missed**",
        "wrong": "**no claim**: the accuracy condition failed",
        "on a GPU": "not measured: no GPU",
    }
    table = {line.split(" | ")[0]: line for line in page.split("## A title")[1].splitlines() if line.startswith("| ")}
    assert table["| 256 x 256"] == "| 256 x 256 | peer 1.0 | 3 | 2 | 1.5 (1.2 to 1.6) | 1.4 | equal |  |"
    assert "1.5 (**missed**)" in table["| missed"]
    assert "does not count" in table["| wrong"]
    assert "| 9 |" in table["| wrong"]
    assert "on a GPU: not measured." in page
    charts = render_charts()
    assert set(charts) == {"goals.svg", "resizing.svg"}
    assert charts["resizing.svg"].count("<rect") == 3  # background, and the two rows that are claims
    assert benchmarks.renew_charts(tmp_path) == [tmp_path / "goals.svg", tmp_path / "resizing.svg"]
    assert benchmarks.renew_charts(tmp_path) == []
    (tmp_path / "gone.svg").write_text("")
    assert benchmarks.renew_charts(tmp_path) == [tmp_path / "gone.svg"]
    assert not (tmp_path / "gone.svg").exists()


def test_a_record_is_written_checked_and_read(tmp_path: Path) -> None:
    record = make_record(ROW, Row("GPU", "peer", None, None, note="not measured: no GPU"))
    write_record(tmp_path / "a.json", record)
    assert read_record(tmp_path / "a.json") == json.loads(json.dumps(record))
    assert record["rows"][0]["ratio"] == 1.5  # type: ignore[index]
    assert record["rows"][1]["ratio"] is None  # type: ignore[index]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (Row("a", "peer", None, 1.0), "a value is missing and the note does not say why"),
        (Row("a", "peer", 1.0, 0.0), "no ratio, and the note does not say why"),
        (Row("a", "peer", float("nan"), 1.0, ratio=1.0), "must be finite numbers"),
    ],
)
def test_a_record_with_a_hole_is_not_written(tmp_path: Path, row: Row, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        write_record(tmp_path / "a.json", make_record(row))
    assert not (tmp_path / "a.json").exists()


def test_what_is_wrong_with_a_record_is_listed() -> None:
    good = make_record()
    assert check_record(good) == []
    assert check_record({**good, "schema": 2, "unit": "", "rows": []}) == [
        "no text 'unit'",
        "schema 2, expected 1",
        "no rows",
    ]
    assert check_record({**good, "machine": {}})[0] == "machine without 'processor'"
    assert check_record({**good, "rows": [{"what": "a"}]})[0].startswith("row 'a': missing or unknown ['accuracy'")


def test_the_command_names_no_place_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["x.py", "--json", "out.json", "--dataset_dir", "/home/me/data/kaggle_3m", "--repeat", "3"]
    monkeypatch.setattr(sys, "argv", words)
    assert describe_command("crf") == "python benchmarks/crf.py --dataset_dir kaggle_3m --repeat 3"


def test_contestants_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    turns = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert "".join(calls) == "baabba"
    assert {name: len(values) for name, values in turns.seconds.items()} == {"a": 2, "b": 2}


def test_bars_reach_from_one_to_their_ratio() -> None:
    chart = draw_bars("title", [Bar("reached", 2.0, 1.0), Bar("missed", 0.5, 1.0), Bar("a < b", 1.0), Bar("zero", 4.0)])
    boxes = re.findall(r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)" height="14"', chart)
    # From 400 to 814; a factor of two is a third of the axis from 0.5 to 4.
    assert [tuple(map(float, box)) for box in boxes] == [(538, 138), (400, 138), (538, 0), (538, 276)]
    colours = re.findall(r'height="14" fill="(#\w+)"', chart)
    assert colours == ["#1a7f37", "#cf222e", "#6e7781", "#6e7781"]
    assert re.findall(r'text-anchor="middle">([\d.]+)<', chart) == ["0.5", "1", "2"]
    assert draw_bars("", [Bar("no score", 0.0, 1.0)]).count('x="400.0"') == 2  # the bar, and the tick at 0.01
    assert "a &lt; b" in chart


def test_curves_pass_through_their_points() -> None:
    lines = [{"name": "ours", "points": [[5, 0.5, 0.25, 0.75], [10, 1.0, None, None]]}]
    chart = draw_curves({"title": "t", "x": "minutes", "y": "Dice", "lines": lines})
    first, second = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart)
    assert (first[1], second) == ("139.0", ("745.5", "16.0"))  # half of the axis from 262 to 16; 60 + 754 / 1.1
    assert 'y1="200.5" y2="77.5"' in chart
