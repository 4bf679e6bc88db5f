"""A tuning that is killed or interrupted: the next one goes on where it stopped and finds the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bundles.conftest import ROOT
from tests.tuning.conftest import Experiment

pytestmark = [pytest.mark.fault, pytest.mark.skipif(os.name == "nt", reason="POSIX signals")]

# Says when it is in the middle, then waits for its end.
STALL = """
import os, sys, time
import pipeline.tuning.{module} as module
from pipeline.commands.cli import main
done, calls = module.{holder}{name}, []
def wait(*arguments):
    if len(calls) == {after}:
        os.write(1, b"in the middle\\n")
        time.sleep(60)
    calls.append(1)
    return done(*arguments)
module.{holder}{name} = wait
sys.exit(main(sys.argv[1:]))
"""
PREDICTING = STALL.format(module="predictions", holder="", name="save_case", after=2)
SCORING = STALL.format(module="chain", holder="Chain.", name="score", after=40)


def stop(script: str, words: list[str], number: int) -> tuple[int, str]:
    """Start a command, end it by a signal in the middle, and return its code and what it wrote to stderr."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def strip_seconds(result: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs between two runs: times, and where files lie."""
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in result["rows"]]
    kept = {key: value for key, value in result.items() if key not in ("network_seconds", "output", "commands")}
    return {**kept, "rows": rows}


@pytest.mark.slow
def test_a_killed_prediction_goes_on_with_the_next_case(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    code, _ = stop(PREDICTING, experiment.words(tmp_path), signal.SIGKILL)
    assert code == -signal.SIGKILL
    kept = {path.name for path in tmp_path.glob("cache/*/*.pt")}
    assert len(kept) == 2
    assert not (tmp_path / "postprocessing.json").exists()
    result = experiment.tune(tmp_path, capsys)
    assert len(predicted) == 2
    assert not kept & set(predicted)
    assert strip_seconds(result) == strip_seconds(experiment.tune(tmp_path / "whole", capsys))


def test_a_prediction_that_is_killed_while_it_is_written_is_made_again(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    script = STALL.format(module="stored", holder="torch.", name="save", after=1)
    half = script.replace("time.sleep", "arguments[1].write(b'half'), arguments[1].flush()\n        time.sleep")
    code, _ = stop(half, experiment.words(tmp_path, "--steps", "threshold"), signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert len(list(tmp_path.glob("cache/*/.*.tmp"))) == 1
    experiment.tune(tmp_path, capsys, "--steps", "threshold")
    assert len(predicted) == 3
    assert list(tmp_path.glob("cache/*/.*.tmp")) == []


@pytest.mark.slow
def test_a_killed_search_computes_no_score_twice(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    code, _ = stop(SCORING, experiment.words(tmp_path), signal.SIGKILL)
    assert code == -signal.SIGKILL
    (table,) = tmp_path.glob("cache/*/scores-*.jsonl")
    before = table.read_text().splitlines()
    assert len(before) == 40
    result = experiment.tune(tmp_path, capsys)
    assert predicted == []
    after = table.read_text().splitlines()
    assert after[:40] == before
    pairs = [tuple(json.loads(line)[:2]) for line in after]
    assert len(set(pairs)) == len(pairs)
    assert strip_seconds(result) == strip_seconds(experiment.tune(tmp_path / "whole", capsys))


@pytest.mark.parametrize("script", [PREDICTING, SCORING], ids=["predicting", "scoring"])
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(script: str, experiment: Experiment, tmp_path: Path) -> None:
    code, errors = stop(script, experiment.words(tmp_path), signal.SIGINT)
    assert (code, errors) == (130, "interrupted; the same command continues where it stopped\n")
    assert not (tmp_path / "postprocessing.json").exists()
    assert list(tmp_path.glob("cache/*/.*.tmp")) == []
