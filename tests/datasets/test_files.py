"""Single files: found under either Unicode form, read once, and recognised when they change."""

import hashlib
import os
import socket
import unicodedata
from pathlib import Path

import pytest

from pipeline.datasets import files
from pipeline.datasets.files import check_presence, is_there, locate_file, read_file, read_stable_file, take_state

NAME = "Schädel é"


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_both_unicode_forms_find_the_file(tmp_path: Path, on_disk: str, asked: str) -> None:
    stored = tmp_path / unicodedata.normalize(on_disk, NAME) / unicodedata.normalize(on_disk, f"{NAME} 1.tif")
    stored.parent.mkdir()
    stored.write_bytes(b"x")
    path = unicodedata.normalize(asked, f"{NAME}/{NAME} 1.tif")
    assert locate_file(tmp_path, path).read_bytes() == b"x"
    assert check_presence(tmp_path, path) is None


def test_a_name_that_is_there_wins_over_its_other_form(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, NAME)).write_text(form)
    for form in ("NFC", "NFD"):
        assert locate_file(tmp_path, unicodedata.normalize(form, NAME)).read_text() == form


def test_a_file_that_is_nowhere_keeps_its_name(tmp_path: Path) -> None:
    path = f"{NAME}/x.tif"
    assert locate_file(tmp_path, path) == tmp_path / path
    issue = check_presence(tmp_path, path, "case")
    assert issue is not None
    assert issue.one_line() == f"error missing-file {path} [case]: the file does not exist"


def test_files_that_arrive_later_are_found(tmp_path: Path) -> None:
    other = unicodedata.normalize("NFD", NAME)
    assert not is_there(locate_file(tmp_path, unicodedata.normalize("NFC", NAME)))
    (tmp_path / other).write_bytes(b"x")
    os.utime(tmp_path, ns=(0, 12345))
    assert locate_file(tmp_path, unicodedata.normalize("NFC", NAME)) == tmp_path / other


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.tif")
        issue = check_presence(tmp_path, "s.tif")
    assert issue is not None
    assert issue.code == "not-a-file"


def test_a_name_that_is_too_long_is_a_finding(tmp_path: Path) -> None:
    issue = check_presence(tmp_path, "x" * 300)
    assert issue is not None
    assert (issue.code, issue.message) == ("unreadable-file", "file name too long")


def test_bytes_and_digest_come_from_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert read_file(path) == (b"abc", hashlib.sha256(b"abc").hexdigest())
    monkeypatch.setattr(files, "MAX_HELD", 2)
    assert read_file(path) == (None, hashlib.sha256(b"abc").hexdigest())


def test_a_file_that_changes_while_it_is_read_has_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert read_stable_file(path)[2] == take_state(path.stat())
    fstat, calls = os.fstat, []

    def grow(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        if not calls:
            with path.open("ab") as stream:
                stream.write(b"d")
        calls.append(status)
        return status

    monkeypatch.setattr(os, "fstat", grow)
    assert read_stable_file(path)[2] is None
