"""``make demo`` fits its threads and epochs to what the machine has to give."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.docs.markdown import ROOT

PLAN = re.compile(r"DEMO_EPOCHS=(\d+) OMP_NUM_THREADS=(\d+)\n")


def plan(epochs: str = "", threads: str = "") -> tuple[int, int, str]:
    """Run the script of the Makefile; returns epochs, threads and what it says."""
    makefile = (ROOT / "Makefile").read_text()
    (script,) = re.findall(r"^define PLAN_DEMO\n(.*?)^endef", makefile, re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    words = [sys.executable, "-c", script, epochs]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    found = PLAN.fullmatch(done.stdout)
    assert found
    return int(found[1]), int(found[2]), done.stderr


@contextmanager
def burn(processes: int) -> Iterator[None]:
    """Keep every core busy."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_a_busy_machine_gets_one_thread_and_a_short_training() -> None:
    cores = len(os.sched_getaffinity(0))
    with burn(4 * cores):
        epochs, threads, said = plan()
    found = re.match(r"== ([\d.]+) of (\d+) cores are free: .*, about \d+ to \d+ minutes", said)
    assert found
    # Five processes a core: each gets about a fifth; how much, the system decides.
    free = float(found[1])
    assert free < 0.6 * cores == 0.6 * int(found[2])
    assert threads == max(1, round(free))
    assert epochs in ((3, 6) if free < 0.75 else (6, 12))
    assert ("DEMO_EPOCHS=12 trains longer" in said) == (epochs < 12)


@pytest.mark.parametrize(("epochs", "threads"), [("9", "3"), ("12", "1")])
def test_what_is_asked_for_is_done(epochs: str, threads: str) -> None:
    assert plan(epochs, threads)[:2] == (int(epochs), int(threads))


def test_the_plan_reaches_the_training() -> None:
    words = ["make", "-n", "demo-steps", "DEMO_EPOCHS=6", "OMP_NUM_THREADS=1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--max_epochs 6 " in done.stdout
