import json
import math
from pathlib import Path

import pytest

from pipeline.tuning.scores import ScoreTable

KEYS = {"a": "a-1", "b": "b-1"}
LOW, HIGH = {"threshold": 0.2}, {"threshold": 0.8}


class Opener:
    """Scores a case by its threshold; remembers what it was asked for."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.opened: list[str] = []
        self.scored: list[tuple[str, float]] = []
        self.stop_after = stop_after

    def __call__(self, case: str):
        self.opened.append(case)

        def score(setting):
            if len(self.scored) == self.stop_after:
                raise KeyboardInterrupt
            self.scored.append((case, setting["threshold"]))
            return (math.nan if case == "b" else setting["threshold"]), 0.25

        return score


def test_a_score_is_computed_once_and_each_case_opened_once_for_all_settings(tmp_path: Path) -> None:
    opener = Opener()
    table = ScoreTable(tmp_path / "s.jsonl", KEYS, opener)
    first = table.score([LOW, HIGH, LOW], ["a", "b"])
    assert [scores["a"] for scores in first] == [0.2, 0.8, 0.2]
    assert math.isnan(first[0]["b"])
    assert opener.opened == ["a", "b"]
    assert table.score([HIGH], ["a"]) == [{"a": 0.8}]
    assert len(opener.scored) == 4
    assert table.seconds(LOW, ["a", "b"]) == 0.25


def test_only_the_cases_that_are_asked_for_are_scored(tmp_path: Path) -> None:
    opener = Opener()
    assert ScoreTable(tmp_path / "s.jsonl", KEYS, opener).score([LOW], ["b"])[0].keys() == {"b"}
    assert opener.opened == ["b"]


def test_another_run_goes_on_where_one_broke_off(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with pytest.raises(KeyboardInterrupt):
        ScoreTable(path, KEYS, Opener(stop_after=3)).score([LOW, HIGH], ["a", "b"])
    opener = Opener()
    scores = ScoreTable(path, KEYS, opener).score([LOW, HIGH], ["a", "b"])
    assert opener.scored == [("b", 0.8)]
    assert [math.isnan(score["b"]) for score in scores] == [True, True]
    assert len(path.read_text().splitlines()) == 4


def test_half_a_line_is_not_read_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    ScoreTable(path, KEYS, Opener()).score([LOW, HIGH], ["a"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    opener = Opener()
    ScoreTable(path, KEYS, opener).score([LOW, HIGH], ["a"])
    assert opener.scored == [("a", 0.8)]
    assert json.loads(path.read_text().splitlines()[-1]) == json.loads(whole.splitlines()[-1])
    again = Opener()
    ScoreTable(path, KEYS, again).score([LOW, HIGH], ["a"])
    assert again.scored == []


@pytest.mark.parametrize("line", ["[]", "3", '["a", "b"]', '{"a": 1}', "[1, 2, 3, 4]", '["a", "b", "x", 1]'])
def test_a_line_that_is_no_record_is_left_out(line: str, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(f"{line}\n")
    assert ScoreTable(path, KEYS, Opener()).score([LOW], ["a"]) == [{"a": 0.2}]


def test_a_case_whose_files_changed_is_scored_again(tmp_path: Path) -> None:
    ScoreTable(tmp_path / "s.jsonl", KEYS, Opener()).score([LOW], ["a"])
    opener = Opener()
    ScoreTable(tmp_path / "s.jsonl", {"a": "a-2"}, opener).score([LOW], ["a"])
    assert opener.scored == [("a", 0.2)]
