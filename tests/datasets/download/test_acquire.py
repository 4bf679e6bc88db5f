"""From a source of the table to a folder: complete or absent, with a record that a second lab can use."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace

import pytest

from pipeline.datasets.download import acquire as module
from pipeline.datasets.download.acquire import Wishes, acquire
from pipeline.datasets.download.record import read_record, record_path
from pipeline.datasets.download.sources import Archive, Source
from pipeline.issues import InputError

pytestmark = pytest.mark.usefixtures("impatient")


def make_zip(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def make_tar(files, mode="w"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


IMAGES = make_zip({"images/1.png": b"one", "images/2.png": b"two" * 50_000})
MASKS = make_tar({"./masks/1.png": b"mask"}, "w:gz")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def source(server):
    server.files.update({"images.zip": IMAGES, "masks.tar.gz": MASKS})
    return Source(
        name="toy",
        title="a toy",
        layout="folders",
        licence="CC0",
        page="https://example.org",
        archives=(
            Archive(
                "images.zip", (server.url("images.zip"),), "images", sha256(IMAGES), size=len(IMAGES), evidence="x"
            ),
            Archive("masks.tar.gz", (server.url("masks.tar.gz"),), "masks", expansion=60),
        ),
    )


@pytest.fixture
def out(tmp_path):
    return tmp_path / "data" / "toy"


def beside(out):
    return sorted(path.name for path in out.parent.iterdir())


def test_a_folder_and_its_record(source, out):
    record, is_new = acquire(source, out)
    assert is_new
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == [
        "images/1.png",
        "images/2.png",
        "masks/1.png",
    ]
    assert beside(out) == ["toy", "toy.download.json"]
    assert record == read_record(out)
    assert record.files == 3
    first, second = record.archives
    assert first.sha256 == sha256(IMAGES)
    assert first.checksum == "its sha256 is the one in x (not verified by us)"
    assert second.sha256 == sha256(MASKS)
    assert second.checksum == "no checksum is published (not verified by us)"
    assert json.loads(record_path(out).read_text())["archives"][1]["url"].endswith("/masks.tar.gz")


def test_a_complete_folder_is_left_alone(source, out, server):
    acquire(source, out)
    before = len(server.requests)
    record, is_new = acquire(source, out)
    assert not is_new
    assert record.files == 3
    assert len(server.requests) == before


def test_a_folder_of_somebody_else_is_not_touched(source, out, server):
    out.mkdir(parents=True)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(
        InputError, match=r"toy exists, but toy\.download\.json, the record of a complete download, does not; choose"
    ):
        acquire(source, out)
    assert (out / "mine.txt").read_text() == "mine"
    assert server.requests == []


def test_an_empty_folder_is_filled(source, out):
    out.mkdir(parents=True)
    acquire(source, out)
    assert (out / "images" / "1.png").read_bytes() == b"one"


def test_a_dangling_link_in_its_place_is_refused(source, out):
    out.parent.mkdir()
    out.symlink_to("nowhere")
    with pytest.raises(InputError, match="exists, but toy"):
        acquire(source, out)


def test_the_record_of_another_dataset(source, out):
    acquire(source, out)
    with pytest.raises(InputError, match=r"is the record of toy, not of other; choose another -o"):
        acquire(replace(source, name="other"), out)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"archives": [1]}'])
def test_a_broken_record_is_reported(source, out, text):
    out.parent.mkdir()
    record_path(out).write_text(text)
    with pytest.raises(InputError, match="cannot read the record"):
        acquire(source, out)


def test_archives_are_kept_on_request(source, out):
    acquire(source, out, Wishes(keep_archives=True))
    assert (out.parent / "toy.archives" / "images.zip").read_bytes() == IMAGES
    assert beside(out) == ["toy", "toy.archives", "toy.download.json"]


def test_an_archive_brought_by_hand_is_not_fetched(source, out, server):
    folder = out.parent / "toy.archives"
    folder.mkdir(parents=True)
    (folder / "images.zip").write_bytes(IMAGES)
    record, _ = acquire(source, out)
    assert [request.path for request in server.requests] == ["masks.tar.gz"]
    assert record.archives[0].url == ""


def test_a_mirror(source, out, server):
    server.files["mirror/images.zip"] = server.files.pop("images.zip")
    server.files["mirror/masks.tar.gz"] = server.files.pop("masks.tar.gz")
    acquire(source, out, Wishes(url_base=server.url("mirror/")))
    assert (out / "masks" / "1.png").exists()


def test_a_wrong_checksum_leaves_nothing_that_could_be_taken_for_the_dataset(source, out, server):
    wrong = make_zip({"images/1.png": b"other"})
    server.files["images.zip"] = wrong
    with pytest.raises(InputError) as caught:
        acquire(source, out)
    line = str(caught.value)
    assert line.startswith("checksum-mismatch: ")
    assert f"images.zip.rejected: sha256 is {sha256(wrong)}, expected {sha256(IMAGES)} (x)" in line
    assert line.endswith(f"add --accept {sha256(wrong)}")
    assert beside(out) == ["toy.archives"]

    record, _ = acquire(source, out, Wishes(accepted={sha256(wrong)}))
    assert record.archives[0].checksum == "accepted by --accept"
    assert [request.path for request in server.requests] == ["images.zip", "masks.tar.gz"]  # not fetched twice
    assert (out / "images" / "1.png").read_bytes() == b"other"
    assert beside(out) == ["toy", "toy.download.json"]


def test_the_same_command_after_a_wrong_checksum_fetches_again(source, out, server):
    server.files["images.zip"] = IMAGES[:-1] + b"x"
    with pytest.raises(InputError, match="checksum-mismatch"):
        acquire(source, out)
    server.files["images.zip"] = IMAGES
    acquire(source, out)
    assert beside(out) == ["toy", "toy.download.json"]


def test_md5_where_only_that_is_known(source, out):
    archive = replace(source.archives[0], sha256="", md5=hashlib.md5(IMAGES).hexdigest())
    record, _ = acquire(replace(source, archives=(archive,)), out)
    assert record.archives[0].checksum == "its md5 is the one in x (not verified by us)"
    with pytest.raises(InputError, match=r"expected md5 0+ \(x\)"):
        acquire(replace(source, archives=(replace(archive, md5="0" * 32),)), out.with_name("again"))


def test_a_second_lab_with_the_record_accepts_the_same_archives_only(source, out, server):
    acquire(source, out)
    there = out.parent.parent / "lab2" / "toy"
    there.parent.mkdir()
    shutil.copy(record_path(out), record_path(there))
    record, is_new = acquire(source, there)
    assert is_new
    assert record.archives[1].checksum == "equals the record of an earlier download"

    shutil.rmtree(there)
    server.files["masks.tar.gz"] = make_tar({"masks/1.png": b"changed"})
    with pytest.raises(InputError, match=rf"expected {sha256(MASKS)} \(record of an earlier download\)"):
        acquire(source, there)
    assert not there.exists()


def test_an_unsafe_archive_leaves_no_folder(source, out, server):
    server.files["masks.tar.gz"] = make_tar({"masks/1.png": b"mask", "../escaped.png": b"x"})
    with pytest.raises(
        InputError, match=r"unsafe-archive: .*masks\.tar\.gz: member '\.\./escaped\.png' leaves the folder"
    ):
        acquire(source, out)
    assert beside(out) == ["toy.archives"]
    assert list(out.parent.parent.rglob("escaped.png")) == []


def test_two_archives_must_not_write_the_same_file(source, out, server):
    server.files["masks.tar.gz"] = make_tar({"images/1.png": b"mask"})
    with pytest.raises(InputError, match="exists already, from another archive"):
        acquire(source, out)
    assert not out.exists()


def test_an_unexpected_folder_is_reported(source, out, server, capsys):
    server.files["masks.tar.gz"] = make_tar({"Masks_v2/1.png": b"mask"})
    acquire(source, out)
    assert "warning: masks.tar.gz: expected the folder masks, found Masks_v2, images" in capsys.readouterr().err


def test_what_a_killed_process_was_unpacking_is_cleared_away(source, out):
    staging = out.with_name(".toy.unpacking")
    staging.mkdir(parents=True)
    (staging / "half.png").write_bytes(b"half")
    acquire(source, out)
    assert not staging.exists()
    assert list(out.rglob("half.png")) == []


def test_ctrl_c_while_unpacking_keeps_the_archives(source, out, monkeypatch, server):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "extract", interrupt)
    with pytest.raises(KeyboardInterrupt):
        acquire(source, out)
    assert beside(out) == ["toy.archives"]
    monkeypatch.undo()
    before = len(server.requests)
    acquire(source, out)
    assert len(server.requests) == before


def test_too_small_a_disk_is_refused_before_the_first_request(source, out, server, monkeypatch):
    large = replace(source.archives[0], size=10**15)
    with pytest.raises(InputError, match=r"^output-space: .*data: .* free but 2100\.0 TB needed; free some"):
        acquire(replace(source, archives=(large,)), out)
    assert server.requests == []
    assert not (out.parent / "toy.archives").exists()


@pytest.mark.fault
def test_too_small_a_disk_for_what_an_archive_unpacks_to(source, small_disk, server):
    bulk = make_zip({"images/1.png": os.urandom(2_500_000)})
    server.files["images.zip"] = bulk
    archive = replace(source.archives[0], sha256=sha256(bulk), size=None)
    source = replace(source, archives=(archive,))
    with pytest.raises(InputError, match=r"^output-space: .* free but 2\.5 MB needed"):
        acquire(source, small_disk / "toy")
    assert sorted(path.name for path in small_disk.iterdir()) == ["toy.archives"]
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    acquire(source, small_disk / "toy")
    assert len(server.requests) == 1


@pytest.mark.fault
def test_a_disk_that_fills_up_while_unpacking(source, small_disk, server, monkeypatch):
    bulk = make_zip({f"images/{number}.png": os.urandom(500_000) for number in range(5)})
    server.files["images.zip"] = bulk
    source = replace(source, archives=(replace(source.archives[0], sha256=sha256(bulk), size=None),))
    monkeypatch.setattr("pipeline.datasets.download.extraction.find_free_space", lambda folder: 10**12)
    with pytest.raises(InputError, match=r"^output-space: .*: .* free; free some space"):
        acquire(source, small_disk / "toy")
    assert sorted(path.name for path in small_disk.iterdir()) == ["toy.archives"]


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_second_process_is_refused(source, out):
    import fcntl

    folder = out.parent / "toy.archives"
    folder.mkdir(parents=True)
    with open(folder / ".lock", "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"another process is downloading into .*toy\.archives; wait for it"):
            acquire(source, out)
    acquire(source, out)
