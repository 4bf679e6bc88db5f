"""Baselines: known findings are accepted, new ones fail, stale entries are reported."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.cli import main
from pipeline.datasets import Manifest, write_manifest
from pipeline.datasets.checks.baseline import Accepted, Baseline, apply_baseline, read_baseline, write_baseline
from pipeline.datasets.checks.integrity import Report
from pipeline.issues import InputError, Issue

GONE = Issue("missing-file", "error", "the file does not exist", record="a", path="a.png")
EMPTY = Issue("empty-mask", "warning", "no foreground", record="b", path="b.png")
REPORT = Report((GONE, EMPTY))


def codes(report: Report) -> list[str]:
    return [issue.code for issue in report.issues]


def test_known_findings_are_accepted_and_new_ones_are_left(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    assert write_baseline(REPORT.issues, "default", path) == 2
    baseline = read_baseline(path)
    known = apply_baseline(REPORT, baseline, "default")
    assert (known.issues, known.accepted) == ((), (GONE, EMPTY))
    other = replace(GONE, path="other.png")
    assert apply_baseline(Report((GONE, other, EMPTY)), baseline, "default").issues == (other,)
    # Other words about the same finding are the same finding.
    assert apply_baseline(Report((replace(GONE, message="x"), EMPTY)), baseline, "default").issues == ()


def test_an_entry_without_path_accepts_every_file_of_the_record() -> None:
    baseline = Baseline("default", (Accepted("missing-file", "a"),))
    assert codes(apply_baseline(Report((GONE, replace(GONE, path="2.png"))), baseline, "default")) == []
    assert codes(apply_baseline(Report((replace(GONE, record="c"),)), baseline, "default")) == [
        "missing-file",
        "baseline-stale",
    ]


def test_stale_entries_are_reported_unless_the_check_could_not_find_them() -> None:
    baseline = Baseline("deep", (Accepted("empty-mask", "b", "b.png"), Accepted("missing-file", "a")))
    assert codes(apply_baseline(Report(()), baseline, "deep")) == ["baseline-stale", "baseline-stale"]
    assert codes(apply_baseline(Report(()), baseline, "default")) == []
    (issue,) = apply_baseline(Report(()), baseline, "deep", ["b"]).issues
    assert issue.one_line() == (
        "warning baseline-stale b.png [b]: the baseline accepts empty-mask here, which is no longer found;"
        " remove the entry, or write the baseline again (--write-baseline)"
    )


@pytest.mark.parametrize("code", ["manifest-schema", "manifest-syntax", "missing-dataset"])
def test_findings_that_prevent_a_check_are_never_accepted(tmp_path: Path, code: str) -> None:
    path = tmp_path / "b.json"
    assert write_baseline([Issue(code, "error", "x")], "default", path) == 0
    issue = Issue(code, "error", "x", record="a")
    assert codes(apply_baseline(Report((issue,)), Baseline("default", (Accepted(code, "a"),)), "default"))[0] == code
    path.write_text(json.dumps({"schema_version": 1, "level": "deep", "accepted": [{"code": code, "record": ""}]}))
    with pytest.raises(InputError, match="cannot be accepted"):
        read_baseline(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "line 1 column 2"),
        ("[]", "expected schema_version 1"),
        ({"schema_version": 2, "level": "deep", "accepted": []}, "expected schema_version 1"),
        ({"schema_version": 1, "level": "deeper", "accepted": []}, "expected schema_version 1"),
        ({"schema_version": 1, "level": "deep", "accepted": 3}, "accepted[0]: expected code, record"),
        ({"schema_version": 1, "level": "deep", "accepted": [{"code": "x"}]}, "accepted[0]: expected code"),
        ({"schema_version": 1, "level": "deep", "accepted": [{"code": 1, "record": ""}]}, "expected strings"),
        ({"schema_version": 1, "level": "deep", "accepted": [{"code": "x", "record": "", "pth": ""}]}, "expected code"),
    ],
)
def test_an_invalid_baseline_is_refused_in_one_line(tmp_path: Path, content: Any, text: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_baseline(path)
    assert text in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_command(kaggle: Path, manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, known = str(write_manifest(manifest, tmp_path / "m.json")), tmp_path / "known.json"
    words = ["dataset", "check", path, "--dataset_dir", str(kaggle)]
    assert main([*words, "--baseline", str(known)]) == 1
    assert f"cannot read the baseline {known}" in capsys.readouterr().err
    (kaggle / manifest.cases[0].image[0]).unlink()
    assert main(words) == 1
    assert main([*words, "--write-baseline", str(known)]) == 0
    capsys.readouterr()
    assert main([*words, "--baseline", str(known)]) == 0
    assert capsys.readouterr().out.endswith("0 errors, 0 warnings, 1 finding accepted by the baseline\n")
    (kaggle / manifest.cases[1].image[0]).write_bytes(b"")
    assert main([*words, "--baseline", str(known), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert [issue["code"] for issue in result["issues"]] == ["empty-file"]
    assert [issue["code"] for issue in result["accepted"]] == ["missing-file"]
    # A folder that does not exist is never accepted.
    assert main([*words[:-1], str(tmp_path / "none"), "--write-baseline", str(known)]) == 1
    assert json.loads(known.read_text())["accepted"] == []
