import errno
import os
from pathlib import Path

import pytest
from ignite.engine import Engine

from pipeline.handlers import OutputFolderGuard
from pipeline.issues import InputError


def start(folder: Path, **options: str) -> list[int]:
    """Run an engine and return what it worked on."""
    done: list[int] = []
    engine = Engine(lambda engine, batch: done.append(batch))
    OutputFolderGuard(folder, **options).attach(engine)
    engine.run([1])
    return done


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    guard = OutputFolderGuard(tmp_path / "a/b")
    assert not (tmp_path / "a").exists(), "building a config must not touch the disk"
    assert guard.output_dir == tmp_path / "a/b"
    assert start(tmp_path / "a/b") == [1]
    assert list((tmp_path / "a/b").iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_is_no_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rf"cannot write to {tmp_path}/{name}: .*; choose another folder with --out$"):
        start(tmp_path / name, knob="out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="permission denied"):
        start(tmp_path / "out")


def test_a_full_or_read_only_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    with pytest.raises(InputError, match=r"output-space: cannot write to .*: read-only file system; choose another"):
        start(tmp_path)


def test_other_ranks_do_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    assert start(tmp_path / "out") == [1]
    assert not (tmp_path / "out").exists()
