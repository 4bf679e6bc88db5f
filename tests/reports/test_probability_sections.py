"""The sections of a run's page about probabilities: calibration, and which cases to review first."""

import json

import pytest

from pipeline.commands.cli import main
from pipeline.reports.calibration_section import judge_table
from pipeline.reports.review_section import count_found
from pipeline.reports.run_page import render_run_page
from pipeline.runs.reliability import CALIBRATION
from tests.run_folders import write_probabilities, write_run

SCORES = {f"c{k:02}": 0.4 + 0.02 * k for k in range(20)}


def write_measured(folder, doubts):
    write_probabilities(write_run(folder, SCORES), doubts)
    return folder


def test_what_the_page_says(tmp_path):
    folder = write_measured(tmp_path, {case: 1 - score for case, score in SCORES.items()})
    page = json.loads(render_run_page([folder], ".json"))[0]
    assert [row["metric"] for row in page["calibration"]["rows"]] == ["ece_band", "ece_all"]
    (entry,) = page["calibration"]["classes"]
    assert entry["ece"] == pytest.approx(0.2, abs=1e-4)
    assert entry["text"] == (
        "Over-confident: the likelier answer has a probability that is on average 0.200 higher than its share of right "
        "voxels."
    )
    assert page["review"]["rows"][0] == {"case": "c00", "subject": "pc00", "doubt": 0.6, "score": 0.4}
    assert page["review"]["found"]["text"] == (
        "Of the worst 4 of 20 cases, 4 are among the first 4 by doubt; in a random order 0.8 would be. Doubt finds "
        "more of them than chance (p 0.00021)."
    )
    # They are about probabilities, so they are neither ranked nor drawn with the scores of the masks.
    assert page["cases"]["metrics"] == ["dice_image"]
    assert [plot["metric"] for plot in page["distribution"]] == ["dice_image"]
    filled = {entry["item"]: entry["text"] for entry in page["checklist"]["filled"]}
    assert filled["Calibration"].startswith("ece_band: mean 0.200")
    html, marks = (render_run_page([folder], form) for form in (".html", ".md"))
    assert html.count("Reliability diagram") == 1
    for text in (html, marks.replace("\\", "")):
        assert entry["text"] in text
        assert page["review"]["found"]["text"] in text
    assert "| 0.0 to 0.1 | 800 | 0.050 | 0.250 |" in marks
    assert "| 0.9 to 1.0 | 800 | 0.950 | 0.750 |" in marks


def test_the_diagram_has_a_point_where_it_belongs(tmp_path):
    """The plot is 248 wide and high, from (40, 12): p 0.95 and 0.75 observed lie at x 275.6 and y 74."""
    page = render_run_page([write_measured(tmp_path, SCORES)])
    assert '<circle class="dot" cx="275.6" cy="74.0" r="4"/>' in page
    assert '<circle class="dot" cx="52.4" cy="198.0" r="4"/>' in page


@pytest.mark.parametrize(
    ("sure", "excess", "said"),
    [(-0.2, 0.0, "Under-confident"), (0.1, 0.2, "expected too often"), (0.1, -0.2, "expected too rarely")],
)
def test_the_sentence_names_the_larger_fault(sure, excess, said):
    assert said in judge_table({"voxels": 9, "ece": 0.2, "over_confidence": sure, "excess": excess})


def test_the_sentence_of_good_and_of_no_probabilities():
    good = {"voxels": 9, "ece": 0.01, "over_confidence": 0.01, "excess": 0.0}
    assert judge_table(good).startswith("Well calibrated")
    assert judge_table(good | {"voxels": 0, "ece": None}) == "No case has this class, in truth or prediction."


def test_few_cases_claim_nothing():
    few = {case: SCORES[case] for case in list(SCORES)[:13]}
    found = count_found({case: 1 - score for case, score in few.items()}, few)
    assert found is not None
    assert (found["fifth"], found["found"], round(found["by_chance"], 2)) == (3, 3, 0.69)
    assert found["text"].endswith("So few cases do not show whether doubt finds the worst ones.")


def test_the_order_of_distances_and_an_order_that_finds_nothing():
    distances = {case: 10 * score for case, score in SCORES.items()}
    found = count_found(SCORES, distances, small_is_good=True)
    assert found is not None
    assert found["found"] == 4
    found = count_found(SCORES, SCORES)  # sure of the worst
    assert found is not None
    assert (found["found"], found["p"]) == (0, 1)
    assert found["text"].endswith("That may be chance (p 1).")
    assert count_found(SCORES, {}) is None


def test_a_run_that_measured_nothing_says_what_to_do(tmp_path):
    page = render_run_page([write_run(tmp_path, SCORES)], ".md").replace("\\", "")
    assert "This run has no table of probabilities." in page
    assert "This run has no doubt by case" in page


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1, "cases": 3, "tables": [{"class": 1}]}', '{"schema": 1'])
def test_a_damaged_table_is_one_line(tmp_path, capsys, text):
    folder = write_measured(tmp_path / "run", SCORES)
    (folder / CALIBRATION).write_text(text)
    assert main(["report", str(folder), "-o", str(tmp_path / "page.html")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("this is not the calibration of a run, or it is cut off; run evaluate.json again")


def test_doubt_is_no_score_to_compare(tmp_path, capsys):
    folders = [str(write_measured(tmp_path / name, SCORES)) for name in "ab"]
    assert main(["report", "compare", *folders, "--json"]) == 0
    assert [m["metric"] for m in json.loads(capsys.readouterr().out)["metrics"]] == ["dice_image", "ece_band"]
    assert main(["report", folders[0]]) == 0
    out = capsys.readouterr().out
    assert "ece_band" in out
    assert "doubt" not in out
