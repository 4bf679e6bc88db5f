"""Mutated configs and archives: the audit never crashes, hangs or fills the memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security.audit_fuzz import MOST_MEGABYTES, MOST_SECONDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutations_are_audited_in_time_and_space(count: int) -> None:
    # In a process of its own: the memory is the audit's alone.
    words = [sys.executable, "-m", "tests.security.audit_fuzz", str(count)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["count"] == count
    assert report["longest"] < MOST_SECONDS
    assert report["megabytes"] < MOST_MEGABYTES
    # The mutations reach the checks, and are not all refused at the door.
    assert len(report["codes"]) >= 25
