"""10,000 damaged annotation files: no crash, no hang, no exception, little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")


def run_fuzz(first, last, repository, timeout):
    command = [sys.executable, str(FUZZ), str(first), str(last)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_damaged_files_give_findings_and_nothing_else(repository):
    outcomes = run_fuzz(0, 10_000, repository, timeout=120)
    assert outcomes.pop("slowest_ms") < 5000
    # The damage is of all kinds, and files that survived it are drawn: the test is not about one early refusal.
    for code in ("accepted", "drawn", "refused to draw", "manifest-syntax", "manifest-schema", "coco-coordinate"):
        assert outcomes[code] > 500, (code, outcomes)
    for code in ("coco-rle", "coco-reference", "degenerate-polygon", "id-type"):
        assert outcomes[code] > 200, (code, outcomes)
    for code in ("coco-bounds", "duplicate-id", "too-large"):
        assert outcomes[code] > 0, (code, outcomes)


@pytest.mark.slow
def test_a_hundred_thousand(repository):
    run_fuzz(10_000, 110_000, repository, timeout=550)
