"""A file is complete, or unchanged."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.atomic import write_atomically


def test_content_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with write_atomically(target) as stream:
        stream.write("é\n")
        assert not target.exists()
    assert target.read_bytes() == "é\n".encode()
    assert os.listdir(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_rest(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def fail() -> None:
        with write_atomically(target, "wb") as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with write_atomically(tmp_path / "a", "wb", sync=False) as stream:
        stream.write(b"x")
    mode = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "plain")]
    assert mode[0] == mode[1]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    code = (
        "import os, signal, sys\nfrom pipeline.atomic import write_atomically\n"
        "with write_atomically(sys.argv[1]) as stream:\n"
        " stream.write('half')\n stream.flush()\n os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -9
    assert target.read_text() == "old"
