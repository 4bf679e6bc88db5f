"""A tuning that is killed or interrupted: the next one goes on where it stopped and finds the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bundles.conftest import ROOT
from tests.tuning.conftest import Experiment, Tuned

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(os.name == "nt", reason="POSIX signals"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

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


def stop(script: str, words: list[str], number: int, errors: Path) -> tuple[int | None, str]:
    """Run a command in a fork, end it by a signal in the middle, and return its code and what it wrote to stderr.

    What this process has imported need not be imported again.
    """
    reading, writing = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(script, words, writing, errors))
    process.start()
    os.close(writing)
    with open(reading) as output:
        assert output.readline() == "in the middle\n"
        os.kill(process.pid or 0, number)
        process.join(60)
    return process.exitcode, errors.read_text()


def _run(script: str, words: list[str], output: int, errors: Path) -> None:
    os.dup2(output, 1)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), errors.open("w")  # noqa: SIM115  # until the process ends
    sys.argv = ["pipeline", *words]
    os.chdir(ROOT)
    exec(compile(script, "<the command>", "exec"), {})


def strip_seconds(result: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs between two runs: times, and where files lie."""
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in result["rows"]]
    kept = {key: value for key, value in result.items() if key not in ("network_seconds", "output", "commands")}
    return {**kept, "rows": rows}


@pytest.mark.slow
def test_a_killed_prediction_goes_on_with_the_next_case(
    experiment: Experiment, tuned: Tuned, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    code, _ = stop(PREDICTING, experiment.words(tmp_path), signal.SIGKILL, tmp_path / "errors")
    assert code == -signal.SIGKILL
    kept = {path.name for path in tmp_path.glob("cache/*/*.pt")}
    assert len(kept) == 2
    assert not (tmp_path / "postprocessing.json").exists()
    result = experiment.tune(tmp_path, capsys)
    assert len(predicted) == 2
    assert not kept & set(predicted)
    assert strip_seconds(result) == strip_seconds(tuned.result)


def test_a_prediction_that_is_killed_while_it_is_written_is_made_again(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    script = STALL.format(module="stored", holder="torch.", name="save", after=1)
    half = script.replace("time.sleep", "arguments[1].write(b'half'), arguments[1].flush()\n        time.sleep")
    code, _ = stop(half, experiment.words(tmp_path, "--steps", "threshold"), signal.SIGKILL, tmp_path / "errors")
    assert code == -signal.SIGKILL
    assert len(list(tmp_path.glob("cache/*/.*.tmp"))) == 1
    experiment.tune(tmp_path, capsys, "--steps", "threshold")
    assert len(predicted) == 3
    assert list(tmp_path.glob("cache/*/.*.tmp")) == []


@pytest.mark.slow
def test_a_killed_search_computes_no_score_twice(
    experiment: Experiment, tuned: Tuned, tmp_path: Path, capsys: pytest.CaptureFixture[str], predicted: list[str]
) -> None:
    code, _ = stop(SCORING, experiment.words(tmp_path), signal.SIGKILL, tmp_path / "errors")
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
    assert strip_seconds(result) == strip_seconds(tuned.result)


@pytest.mark.parametrize("script", [PREDICTING, SCORING], ids=["predicting", "scoring"])
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(script: str, experiment: Experiment, tmp_path: Path) -> None:
    code, errors = stop(script, experiment.words(tmp_path), signal.SIGINT, tmp_path / "errors")
    assert (code, errors) == (130, "interrupted; the same command continues where it stopped\n")
    assert not (tmp_path / "postprocessing.json").exists()
    assert list(tmp_path.glob("cache/*/.*.tmp")) == []
