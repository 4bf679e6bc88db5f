"""The real command, killed and interrupted in the middle of a slow transfer."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


@pytest.fixture
def archive(server):
    """Archive of 6 MB under the name that the source u373 asks for, sent at 6 MB/s."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        opened.writestr("PhC-C2DH-U373/01/t000.tif", os.urandom(6_000_000))
    server.files["PhC-C2DH-U373.zip"] = content = stream.getvalue()
    server.pause = 0.01
    return content


def start(server, archive, out, **options):
    digest = hashlib.sha256(archive).hexdigest()
    command = [sys.executable, "-m", "pipeline", "dataset", "download", "u373", "-o", str(out)]
    command += ["--url-base", server.base, "--accept", digest]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_for(part, count, process):
    end = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_resume_after_a_signal(server, archive, tmp_path, number):
    out = tmp_path / "u373"
    part = tmp_path / "u373.archives" / "PhC-C2DH-U373.zip.part"
    process = start(server, archive, out)
    wait_for(part, 1_500_000, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert "the part that has arrived is kept; the same command resumes\ninterrupted\n" in errors
        assert "Traceback" not in errors
    arrived = part.stat().st_size
    assert 1_500_000 <= arrived < len(archive)
    assert not out.exists()

    process = start(server, archive, out)
    text, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.count("\n")) == (0, 1)
    assert server.requests[-1].range == f"bytes={arrived}-"
    assert server.requests[-1].sent == len(archive) - arrived
    assert (out / "PhC-C2DH-U373" / "01" / "t000.tif").stat().st_size == 6_000_000
    assert not part.parent.exists()
    assert "next: python -m pipeline dataset" in text
