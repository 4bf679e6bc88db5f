"""Processes of folds: output, exit codes, orderly ends, and no process that outlives the one that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.crossval.child_process import run_child

ROOT = Path(__file__).resolve().parents[2]
# Says that it is ready, and ends in order on a signal, as a training does.
WAITER = """
import signal, sys, time
def leave(number, frame):
    print("leaving", number, flush=True)
    time.sleep(0.2)
    print("saved", flush=True)
    sys.exit(128 + number)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, leave)
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import sys
from pathlib import Path
from pipeline.commands.termination import exit_on_sigterm
from pipeline.crossval.child_process import run_child
with exit_on_sigterm():
    run_child([sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]), ".", lambda line: print(line, flush=True))
"""


def test_output_and_exit_code(tmp_path: Path) -> None:
    script = "import os, sys; print('out'); print('err', file=sys.stderr); print(os.getcwd()); sys.exit(3)"
    lines: list[str] = []
    log = tmp_path / "sub/log.txt"
    for _ in range(2):
        assert run_child([sys.executable, "-c", script], log, str(tmp_path), lines.append) == 3
    assert sorted(lines[:3]) == sorted(["out", "err", str(tmp_path)])
    assert len(log.read_text().splitlines()) == 6, "one run after the other"


def test_the_child_finds_this_package(tmp_path: Path) -> None:
    lines: list[str] = []
    script = "import pipeline; print(pipeline.__file__)"
    assert run_child([sys.executable, "-c", script], tmp_path / "log", str(tmp_path), lines.append) == 0
    assert lines == [str(ROOT / "pipeline/__init__.py")]


@pytest.fixture
def parent(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that runs a child which is ready."""
    command = [sys.executable, "-c", PARENT, WAITER, str(tmp_path / "log.txt")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_is_handed_on_and_the_end_is_awaited(
    parent: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    parent.send_signal(number)
    assert parent.wait(20) in (code, 1)
    assert (tmp_path / "log.txt").read_text() == f"ready\nleaving {number.value}\nsaved\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties processes together")
@pytest.mark.fault
def test_a_child_does_not_outlive_a_killed_parent(parent: subprocess.Popen[str]) -> None:
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) == 1
    parent.kill()
    parent.wait(10)
    end = time.monotonic() + 10
    while Path(f"/proc/{children[0]}").exists() and _read_state(children[0]) != "Z":
        assert time.monotonic() < end
        time.sleep(0.02)


def _read_state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
