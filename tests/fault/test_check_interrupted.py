"""A check that is interrupted or terminated: the exit code shows it, and nothing half-written stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.fault, pytest.mark.skipif(os.name == "nt", reason="POSIX signals")]

# Reading stalls for a moment, as on a network disk.
STALL = (
    "import os, sys, time\nimport pipeline.datasets.checks.inspection as i\nfrom pipeline.commands.cli import main\n"
    "read = i.read_stable_file\n"
    "def wait(path):\n os.write(1, b'reading\\n')\n time.sleep(0.2)\n return read(path)\n"
    "i.read_stable_file = wait\nsys.exit(main(sys.argv[1:]))"
)


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "terminated\n")]
)
def test_a_signal_ends_the_check(lgg_phantom: Path, tmp_path: Path, number: int, code: int, word: str) -> None:
    words = ["dataset", "check", str(lgg_phantom / "manifest.json"), "--dataset_dir", str(lgg_phantom / "kaggle_3m")]
    outputs = ["--html", str(tmp_path / "report.html"), "--write-baseline", str(tmp_path / "known.json")]
    process = subprocess.Popen(
        [sys.executable, "-c", STALL, *words, *outputs, "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    start = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    # A patient has 40 files and more, 8 s; the check ends after the file that it reads.
    assert time.monotonic() - start < 5
    assert (process.returncode, errors) == (code, word)
    assert [path.name for path in tmp_path.rglob("*")] == []


def test_a_check_that_is_killed_leaves_a_usable_cache(lgg_phantom: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    words = ["dataset", "check", str(lgg_phantom / "manifest.json"), "--dataset_dir", str(lgg_phantom / "kaggle_3m")]
    process = subprocess.Popen(
        [sys.executable, "-c", STALL, *words], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    command = [sys.executable, "-m", "pipeline", *words, "--cached", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
