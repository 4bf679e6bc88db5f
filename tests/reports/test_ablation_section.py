"""The post-processing of a tuned run on its page: gains, which steps are on, and when they are not about this run."""

import json

import pytest

from pipeline.reports.run_page import render_run_page
from pipeline.runs.ablation_record import ABLATION, digest_steps
from tests.run_folders import write_run

SCORES = {f"c{k}": 0.5 + 0.04 * k for k in range(12)}
STEPS = [{"_target_": "AsDiscreted", "keys": "pred", "threshold": "@threshold"}]
GAIN = {"mean": 0.0351, "low": 0.006, "high": 0.083, "why_not": ""}
SAME = "Measured with the weights and on the cases of this run, which also chose the values."


def make_config(**changes):
    ablation = {
        **{"metric": "dice_image", "split": "val", "fold": 0, "cases": 13, "subjects": 13, "folds": 13},
        **{"manifest_sha256": "0" * 64, "weights_sha256": "a" * 64, "resamples": 10_000, "seed": 0},
        "rows": [
            {"name": "raw", "over": None, "score": 0.8132, "gain": None},
            {"name": "largest_component", "over": "raw", "score": 0.8483, "gain": GAIN},
            {"name": "crf", "over": "kept so far", "score": 0.85, "gain": GAIN | {"low": None, "high": None}},
        ],
        "steps": [{"name": "largest_component", "on": True}, {"name": "crf", "on": False}],
        "temperature": {"on": True, "value": 2.5, "fitted": 2.5, "calibration_error": {"before": 0.1, "after": 0.04}},
        "values": {"threshold": 0.4},
        "refine_digest": digest_steps(STEPS),
    }
    return {"split": "val", "fold": 0, "threshold": 0.4, "refine": STEPS, ABLATION: ablation} | changes


def write_tuned(folder, weights="a" * 64, **changes):
    record = {"config": make_config(**changes), "checkpoint": {"path": "model.pt", "sha256": weights}}
    return write_run(folder, SCORES, record=record)


def read_section(folder):
    return json.loads(render_run_page([folder], ".json"))[0]["ablation"]


def test_what_the_page_says(tmp_path):
    folder = write_tuned(tmp_path)
    section = read_section(folder)
    assert [(row["name"], row["on"]) for row in section["rows"]] == [
        ("raw", None),
        ("largest_component", True),
        ("crf", False),
    ]
    assert section["notes"] == [SAME]
    html, marks = (render_run_page([folder], form) for form in (".html", ".md"))
    assert ">0.0351</td>" in html
    assert ">0.0060 to 0.0830</td>" in html
    assert "Temperature 2.50 (on): calibration error of held-out subjects 0.100 without, 0.040 with" in html
    assert "| largest\\_component | yes | raw | 0.8483 | 0.0351 | 0.0060 to 0.0830 |" in marks
    assert "| crf | no | kept so far | 0.8500 | 0.0351 | none |" in marks


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": "b" * 64}, "The gains are of other weights than this run's, so they do not hold for it."),
        ({"split": "test"}, "The gains are of split val; the scores of this page are of test."),
        ({"fold": 2}, "The gains are of fold 0; the scores of this page are of 2."),
        ({"threshold": 0.5}, "This run changed threshold, so it did not use what was tuned."),
        ({"refine": []}, "This run changed refine, so it did not use what was tuned."),
    ],
)
def test_where_the_gains_are_of_something_else(tmp_path, changes, said):
    notes = read_section(write_tuned(tmp_path, **changes))["notes"]
    assert said in notes
    assert (SAME in notes) == ("changed" in said)


def test_of_another_manifest_or_of_unknown_weights(tmp_path):
    folder = write_run(
        tmp_path, SCORES, record={"config": make_config()}, manifest={"path": "m.json", "sha256": "1" * 64}
    )
    assert read_section(folder)["notes"] == [
        "The gains are of another manifest than this run's.",
        "This run does not record its weights, so it may not be what was tuned.",
    ]


@pytest.mark.parametrize("said", [None, [], {"metric": "dice"}, {"metric": "dice", "rows": [{"name": "raw"}]}])
def test_a_run_without_an_ablation_has_no_section(tmp_path, said):
    folder = write_run(tmp_path, SCORES, record={"config": make_config(**{ABLATION: said})})
    assert read_section(folder) is None
    assert "<h2>Post-processing</h2>" not in render_run_page([folder])
    assert "## Post" not in render_run_page([folder], ".md")
