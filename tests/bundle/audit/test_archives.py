"""Hostile zip files: the audit names what is wrong, ``bundle unpack`` leaves nothing, and nothing leaves the folder."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.bundle.audit import audit_bundle
from pipeline.bundle.packing.unpacking import unpack_bundle
from pipeline.commands.cli import main
from pipeline.issues import InputError
from tests.bundle.audit.bundles import list_codes, make_files, write_folder, write_zip

NAMES = {
    "../../evil.txt": "member-path",
    "/etc/evil.txt": "member-path",
    "C:\\evil.txt": "member-path",
    "C:/evil.txt": "member-path",
    "..\\evil.txt": "member-path",
    "configs/con.json": "member-path",
    "configs/evil.txt.": "member-path",
    "nul\0l.txt": "member-path",
    "line\nbreak.txt": "member-path",
    "a/" * 40 + "deep.txt": "member-path",
    "x" * 300: "member-path",
    "configs/TRAIN.json": "member-twice",
    "configs/train.json": "member-twice",
    "LICENSE/inside": "member-twice",
}


def write_raw(
    path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    write_zip(make_files(), path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a", method) as opened:
        warnings.simplefilter("ignore")
        for info, content in members:
            opened.writestr(info, content)
    return path


def make_info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def name_raw(name: str) -> zipfile.ZipInfo:
    """A member whose name is written as it is: zipfile itself cuts and changes names."""
    info = zipfile.ZipInfo("x")
    info.filename = name
    return info


def patch(path: Path, change: Callable[[bytearray], None]) -> Path:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    return path


def encrypt(content: bytearray) -> None:
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1


def overlap(content: bytearray) -> None:
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]


def lie_about_number(content: bytearray) -> None:
    struct.pack_into("<H", content, content.rindex(b"PK\x05\x06") + 10, 3)


def enlarge_directory(content: bytearray) -> None:
    struct.pack_into("<L", content, content.rindex(b"PK\x05\x06") + 12, 30_000_000)


def cut(content: bytearray) -> None:
    del content[len(content) // 2 :]


def damage(content: bytearray) -> None:
    start = content.index(b"PK\x03\x04") + 40
    for place in range(start, start + 5):
        content[place] ^= 0xFF


def lose_end(path: Path) -> Path:
    """A file that ends where an archive within it ends, whose list zipfile then takes for the whole."""
    inner = write_zip(make_files(), path.with_name("inner"))
    content = inner.read_bytes()
    inner.unlink()
    write_raw(path, [("wheels/inner.whl", content)], zipfile.ZIP_STORED)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(content) + len(content)])
    return path


ARCHIVES: dict[str, tuple[Callable[[Path], Path], str]] = {
    **{
        f"name {name[:20]!r}": (lambda path, name=name: write_raw(path, [(name_raw(name), b"x")]), code)
        for name, code in NAMES.items()
    },
    "symlink": (
        lambda path: write_raw(path, [(make_info("docs/link", stat.S_IFLNK | 0o777), b"/etc/passwd")]),
        "member-link",
    ),
    "fifo": (lambda path: write_raw(path, [(make_info("docs/fifo", stat.S_IFIFO | 0o666), b"")]), "member-link"),
    "set-user-id": (
        lambda path: write_raw(path, [(make_info("docs/x.md", stat.S_IFREG | 0o4755), b"")]),
        "member-link",
    ),
    "bomb": (lambda path: write_raw(path, [("docs/bomb.txt", bytes(30_000_000))]), "member-bomb"),
    "many bombs": (lambda path: write_raw(path, [(f"docs/{k}.txt", bytes(900_000)) for k in range(40)]), "member-bomb"),
    "bzip2": (lambda path: write_raw(path, [("docs/x.txt", b"x")], zipfile.ZIP_BZIP2), "member-encrypted"),
    "encrypted": (lambda path: patch(write_raw(path, []), encrypt), "member-encrypted"),
    "overlap": (lambda path: patch(write_raw(path, []), overlap), "member-bomb"),
    "number": (lambda path: patch(write_raw(path, []), lie_about_number), "archive-damaged"),
    "directory": (lambda path: patch(write_raw(path, []), enlarge_directory), "archive-damaged"),
    "lost end": (lose_end, "archive-damaged"),
    "cut": (lambda path: patch(write_raw(path, []), cut), "archive-damaged"),
    "damage": (lambda path: patch(write_raw(path, []), damage), "unreadable-file"),
    "many files": (lambda path: write_raw(path, [(f"docs/{k}", b"") for k in range(10_001)]), "too-many-files"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_is_named_and_never_unpacked(name: str, tmp_path: Path) -> None:
    make, code = ARCHIVES[name]
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    archive = make(tmp_path / "received.zip")
    result = audit_bundle(archive)
    assert code in list_codes(result), result.format()
    assert result.errors
    before = sorted(tmp_path.rglob("*"))
    assert main(["bundle", "unpack", str(archive), str(here / "bundle")]) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("top", ["", "spleen/"])
def test_a_good_archive_is_unpacked(top: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = make_files()
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in files.items())
    files = {**files, "SHA256SUMS": sums.encode()}
    archive = write_zip({f"{top}{path}": content for path, content in files.items()}, tmp_path / "spleen.zip")
    target = tmp_path / "new" / "spleen"
    assert main(["bundle", "unpack", str(archive), str(target)]) == 0
    assert capsys.readouterr().out == f"{target}: 6 files\n"
    assert {
        path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()
    } == files
    assert os.listdir(target.parent) == ["spleen"]
    # A second time the folder exists, and is not touched.
    assert main(["bundle", "unpack", str(archive), str(target)]) == 1
    assert capsys.readouterr().err == f"error: {target} exists; name a new folder\n"


def test_unpack_says_what_stopped_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = write_zip(make_files({"x": {"_target_": "os.system"}}), tmp_path / "spleen.zip")
    assert main(["bundle", "unpack", str(archive), str(tmp_path / "spleen")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error target-denied configs/train.json x#_target_: os.system; ")
    assert lines[-1].startswith(f"error: {archive}: target-denied: 1 errors; nothing was unpacked; ")
    assert os.listdir(tmp_path) == ["spleen.zip"]
    # The hint works: the allow-list lets it pass.
    allow = tmp_path / "allow.json"
    allow.write_text('{"targets": ["os.system"]}')
    assert main(["bundle", "unpack", str(archive), str(tmp_path / "spleen"), "--allow", str(allow)]) == 0


def test_an_archive_that_changes_after_its_audit_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.bundle.packing import unpacking

    archive = write_zip(make_files(), tmp_path / "spleen.zip")

    def swap(path: Path, **options: object) -> object:
        result = audit_bundle(path)
        write_zip(make_files({"x": {"_target_": "os.system"}}), path)
        return result

    monkeypatch.setattr(unpacking, "audit_bundle", swap)
    with pytest.raises(InputError, match=r"changed while it was unpacked: configs/train.json"):
        unpack_bundle(archive, tmp_path / "deep" / "spleen")
    assert os.listdir(tmp_path) == ["spleen.zip"]


@pytest.mark.parametrize("content", [b"", b"hello", b"PK", b"PK\x05\x06" + bytes(18)])
def test_what_is_not_a_bundle_is_said_in_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    code = main(["bundle", "audit", str(tmp_path / "x.zip")])
    out, err = capsys.readouterr()
    assert code == 1
    assert len(err.splitlines()) <= 1
    assert "this is a bug" not in err
    assert out or err


def test_links_and_pipes_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    folder = write_folder(make_files(), tmp_path / "spleen")
    (tmp_path / "secret.json").write_text('{"x": "$1"}')
    (folder / "configs/link.json").symlink_to(tmp_path / "secret.json")
    (folder / "docs/folder").symlink_to(tmp_path)
    os.mkfifo(folder / "configs/pipe.json")
    result = audit_bundle(folder)
    assert [(finding.code, finding.file) for finding in result.errors] == [
        ("member-link", "configs/link.json"),
        ("member-link", "configs/pipe.json"),
        ("member-link", "docs/folder"),
    ]
    assert len(result.digests) == 5
