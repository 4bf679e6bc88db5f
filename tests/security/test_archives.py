"""Hostile archives: every one is refused with its reason, and nothing appears outside of the folder."""

import gzip
import io
import os
import random
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest

from pipeline.datasets.download.extraction import extract
from pipeline.datasets.download.members import Limits, Member, check_members, split_name
from pipeline.issues import InputError

KINDS = {
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "character": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
}


@pytest.fixture
def place(tmp_path):
    """Folder to unpack to, deep enough to show what leaves it, and a file that must not change."""
    folder = tmp_path / "a" / "b" / "out"
    folder.parent.mkdir(parents=True)
    (tmp_path / "canary").write_text("alive")
    return folder


def write_zip(path, names, content=b"x", **attributes):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name  # as it is: the constructor would change some
            for key, value in attributes.items():
                setattr(info, key, value)
            with pytest.warns() if name in archive.namelist() else _nothing():
                archive.writestr(info, content)
    return path


class _nothing:  # noqa: N801
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def write_tar(path, names, content=b"x", mode="w", **attributes):
    with tarfile.open(path, mode) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


def refuse(archive, place, pattern, limits=None):
    """Try to unpack, and compare the world before and after."""
    root = place.parents[2]
    before = sorted(path for path in root.rglob("*"))
    with pytest.raises(InputError, match=pattern) as caught:
        extract(archive, place, limits)
    assert "\n" not in str(caught.value)
    assert [path for path in sorted(root.rglob("*")) if place not in (path, *path.parents)] == before
    assert (root / "canary").read_text() == "alive"
    assert not place.exists() or not [path for path in place.rglob("*") if path.is_file()]
    return str(caught.value)


NAMES = {
    "/etc/passwd": "is an absolute path",
    "//server/share/x": "is an absolute path",
    "../x": "leaves the folder",
    "set/../../x": "leaves the folder",
    "set/..": "leaves the folder",
    "..\\x": "has a backslash",
    "set\\x": "has a backslash",
    "C:/x": "starts with a drive letter",
    "c:x": "starts with a drive letter",
    "set/x:stream": "which Windows reads as another name",
    "set/x.": "which Windows reads as another name",
    "set/ /x": "which Windows reads as another name",
    "set/nul": "a device on Windows",
    "COM1.txt": "a device on Windows",
    "set/a\nb": "has control characters",
    "set/\x1b[2Jx": "has control characters",
    "set/\u202egnp.exe": "has control characters",
    "n" * 256: "has a part longer than 255 bytes",
    "é" * 128: "has a part longer than 255 bytes",
    "/".join(["d" * 200] * 6): "is longer than 1024 bytes",
    "/".join("d" * 20): "lies deeper than 16 folders",
    "./": None,
}


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("name", [name for name, reason in NAMES.items() if reason])
def test_names(tmp_path, place, write, name):
    archive = write(tmp_path / "evil", ["set/honest.png", name])
    line = refuse(archive, place, f"^unsafe-archive: {archive}: member .* {NAMES[name]}")
    assert line.endswith("none of its files was kept, do not unpack it by other means either")


def test_a_name_of_nothing(tmp_path, place):
    refuse(write_tar(tmp_path / "evil", ["."]), place, r"member '\.' has no name")


def test_a_name_with_nul(tmp_path, place):
    archive = write_zip(tmp_path / "evil", ["honest.pngZ.exe"])
    archive.write_bytes(archive.read_bytes().replace(b"pngZ", b"png\x00"))
    refuse(archive, place, "has control characters")


def test_a_name_that_is_not_utf8(tmp_path, place):
    archive = write_tar(tmp_path / "evil", ["aaaa"])
    content = archive.read_bytes().replace(b"aaaa", b"a\xff\xfea")
    header = bytearray(content[:512])
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    archive.write_bytes(bytes(header) + content[512:])
    refuse(archive, place, "is not in UTF-8")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["../../canary", "/etc/passwd", "honest.png"])
def test_links_and_devices_in_a_tar(tmp_path, place, kind, target):
    archive = tmp_path / "evil"
    with tarfile.open(archive, "w") as opened:
        info = tarfile.TarInfo("set/link")
        info.type, info.linkname = KINDS[kind], target
        opened.addfile(info)
        inside = tarfile.TarInfo("set/link/x")
        inside.size = 1
        opened.addfile(inside, io.BytesIO(b"x"))
    refuse(archive, place, rf"member 'set/link' is {'a link to' if 'link' in kind else 'a device'}.*expected files")


@pytest.mark.parametrize(
    ("mode", "words"), [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a device"), (stat.S_IFSOCK, "a device")]
)
def test_links_and_devices_in_a_zip(tmp_path, place, mode, words):
    archive = write_zip(tmp_path / "evil", ["set/link"], b"../../canary", external_attr=(mode | 0o777) << 16)
    refuse(archive, place, f"member 'set/link' is {words}")


def test_a_sparse_file_in_a_tar(tmp_path, place):
    archive = write_tar(tmp_path / "evil", ["set/x"], type=tarfile.GNUTYPE_SPARSE)
    refuse(archive, place, "unsafe-archive|damaged-archive")


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["set/x", "set/x"], "occurs twice"),
        (["set/x", "./set//x"], "occurs twice"),
        (["set/x", "set/X"], "collides with 'set/x' where case or accents"),
        (["set/x", "SET/y"], "collides with 'set' where case or accents"),
        (["set/caf\u00e9", "set/cafe\u0301"], "collides with 'set/caf\u00e9' where"),
        (["set/stra\u00dfe", "set/STRASSE"], "collides with"),
        (["set", "set/x"], "has a file as its folder, 'set'"),
        (["set/x", "set"], "occurs twice"),
    ],
)
def test_names_that_meet(tmp_path, place, write, names, reason):
    refuse(write(tmp_path / "evil", names), place, reason)


def test_no_permission_comes_out_of_an_archive(tmp_path, place):
    old = os.umask(0o022)
    try:
        extract(write_tar(tmp_path / "a.tar", ["tar/run"], mode="w"), place)
        archive = tmp_path / "b.tar"
        with tarfile.open(archive, "w") as opened:
            info = tarfile.TarInfo("tar2/run")
            info.size, info.mode, info.uid, info.mtime = 1, 0o6777, 1234, 0
            opened.addfile(info, io.BytesIO(b"x"))
        extract(archive, place)
        extract(write_zip(tmp_path / "c.zip", ["zip/run"], external_attr=(stat.S_IFREG | 0o6777) << 16), place)
    finally:
        os.umask(old)
    for path in place.rglob("run"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert path.stat().st_uid == os.getuid()
        assert time.time() - path.stat().st_mtime < 3600


@pytest.mark.parametrize("mode", ["zip", "w:gz"])
def test_a_bomb(tmp_path, place, mode):
    archive = tmp_path / "bomb"
    content = bytes(20_000_000)
    if mode == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("set/zeros", content)
    else:
        write_tar(archive, ["set/zeros"], content, mode=mode)
    assert archive.stat().st_size < 50_000
    refuse(archive, place, r"it unpacks to more than 40 times its own size \(at member 'set/zeros'\)")


def test_an_honest_empty_mask_is_not_a_bomb(tmp_path, place):
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("set/image.tif", os.urandom(100_000))
        opened.writestr("set/mask.tif", bytes(2_000_000))
    assert extract(archive, place) == 2


def test_a_bomb_of_members_that_share_their_bytes(tmp_path, place):
    archive = tmp_path / "bomb"
    write_zip(archive, ["a", "b"], b"y" * 1000)
    content = bytearray(archive.read_bytes())
    # The second entry of the directory points to the first member's bytes.
    second = content.rindex(b"PK\x01\x02")
    struct.pack_into("<L", content, second + 42, 0)
    archive.write_bytes(content)
    refuse(archive, place, "overlaps with another")


def test_more_members_than_expected(tmp_path, place):
    archive = write_zip(tmp_path / "evil", [f"set/{number}" for number in range(30)])
    refuse(archive, place, "it holds more than 20 members", Limits(members=20))


def test_a_size_that_is_too_small_is_noticed(tmp_path, place):
    archive = write_zip(tmp_path / "evil", ["set/x"], b"z" * 1000)
    content = bytearray(archive.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into("<L", content, entry + 24, 10)  # says 10 bytes
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"^damaged-archive: .*Bad CRC-32"):
        extract(archive, place)


@pytest.mark.parametrize(
    ("patch", "text"),
    [
        ((8, b"\x00\x08"), "can't decode byte 0xff"),  # says that its name is UTF-8
        ((28, b"\x00\x00"), "Truncated central directory"),  # says that its name is empty
    ],
)
def test_a_directory_entry_that_lies(tmp_path, place, patch, text):
    archive = write_zip(tmp_path / "evil", ["set/x"])
    content = bytearray(archive.read_bytes().replace(b"set/x", b"\xff\xfe\xfdab"))
    at = content.rindex(b"PK\x01\x02") + patch[0]
    content[at : at + 2] = patch[1]
    archive.write_bytes(content)
    refuse(archive, place, text)


def test_an_encrypted_member(tmp_path, place):
    archive = write_zip(tmp_path / "evil", ["set/x"])
    content = bytearray(archive.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refuse(archive, place, "member 'set/x' is encrypted")


def test_an_unusual_compression(tmp_path, place):
    archive = write_zip(tmp_path / "evil", ["set/x"], b"x" * 100, compress_type=zipfile.ZIP_LZMA)
    refuse(archive, place, "member 'set/x' is compressed by method 14")


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path, place):
    """A pax header of 8 GB in a few kB of gzip; tarfile would read it in one piece."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 8 * 1024**3 - 1
    archive = tmp_path / "evil.tar.gz"
    archive.write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(3_000_000)))
    script = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from pipeline.datasets.download.extraction import extract\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "extract(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(archive), str(place)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "InputError: damaged-archive" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz"])
def test_every_cut_is_noticed(tmp_path, place, name):
    archive = tmp_path / name
    names = [f"set/{number}" for number in range(3)]
    if name == "set.zip":
        write_zip(archive, names, b"abc" * 100)
    else:
        write_tar(archive, names, b"abc" * 100, mode="w:gz" if name.endswith("gz") else "w")
    whole = archive.read_bytes()
    # The last blocks of a tar are filling; what counts is that no member is lost unseen.
    end = 3 * 1024 if name == "set.tar" else len(whole)
    for length in range(0, end, 7):
        archive.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"damaged-archive|is not a zip, tar"):
            extract(archive, place / str(length))


@pytest.mark.parametrize("content", [b"", b"PK", b"<html>login</html>", b"\x1f\x8b", bytes(1024), b"Rar!\x1a\x07"])
def test_what_is_not_an_archive(tmp_path, place, content):
    archive = tmp_path / "set.zip"
    archive.write_bytes(content)
    refuse(archive, place, r"damaged-archive|is not a zip, tar or tar\.gz file")


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz"])
def test_random_damage_never_goes_unseen(tmp_path, place, mode):
    archive = tmp_path / "set"
    names, content = [f"set/{number}" for number in range(4)], os.urandom(50) * 8
    if mode == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            for name in names:
                opened.writestr(name, content)
    else:
        write_tar(archive, names, content, mode=mode)
    whole = archive.read_bytes()
    random_numbers = random.Random(0)
    root = place.parents[2]
    before = sorted(path for path in root.rglob("*"))
    refused = 0
    for trial in range(400):
        damaged = bytearray(whole)
        for _ in range(random_numbers.choice((1, 1, 3, 20))):
            damaged[random_numbers.randrange(len(damaged))] = random_numbers.randrange(256)
        archive.write_bytes(damaged)
        try:
            extract(archive, place / str(trial))
        except InputError:
            refused += 1
        else:
            found = [path.read_bytes() for path in (place / str(trial)).rglob("*") if path.is_file()]
            # A plain tar has no checksum of its contents; that is what the archive's sha256 is for.
            assert mode == "w" or found == [content] * 4
    outside = [path for path in sorted(root.rglob("*")) if place not in (path, *path.parents)]
    assert outside == before
    assert refused > 50


@pytest.mark.parametrize(
    ("target", "reason"), [("../../../../canary", "would be written outside"), ("y", "exists already, from another")]
)
def test_nothing_is_written_through_an_existing_link(tmp_path, place, target, reason):
    place.mkdir()
    (place / "set").mkdir()
    (place / "set" / "x").symlink_to(target)
    with pytest.raises(InputError, match=reason):
        extract(write_zip(tmp_path / "a.zip", ["set/x"]), place)
    assert not (place / "set" / "y").exists()
    assert (tmp_path / "canary").read_text() == "alive"


def test_nothing_is_written_through_a_linked_folder(tmp_path, place):
    place.mkdir()
    (place / "set").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"^unsafe-archive: .* member 'set/canary2' would be written outside"):
        extract(write_zip(tmp_path / "a.zip", ["set/canary2"]), place)
    assert not (tmp_path / "canary2").exists()


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz"])
def test_honest_archives(tmp_path, place, mode):
    names = ["set/01/t000.tif", "set/01/._t000.tif", "set/name with spaces, é and 細胞.png", "set/.hidden", "top.txt"]
    archive = tmp_path / "archive-without-suffix"
    if mode == "zip":
        write_zip(archive, ["set/", "set/01/", *names])
    else:
        write_tar(archive, names, mode=mode)
    assert extract(archive, place) == len(names)
    assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()) == sorted(names)


def test_a_bomb_after_the_last_member(tmp_path, place):
    archive = write_tar(tmp_path / "evil", ["set/x"], mode="w:gz")
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()) + bytes(50_000_000)))
    refuse(archive, place, "more than 16777216 bytes follow its last member")


def test_a_bomb_is_not_listed_to_its_end(tmp_path):
    archive = tmp_path / "archive"
    archive.write_bytes(b"x" * 1000)
    listed = []

    def members():
        for number in range(10**9):
            listed.append(number)
            yield Member(f"set/{number}", 100_000, "file")

    with pytest.raises(InputError, match="unpacks to more than"):
        list(check_members(members(), archive, Limits()))
    assert len(listed) < 20


def test_parts_of_honest_names():
    assert split_name("./set/01//t000.tif") == ("set", "01", "t000.tif")
    assert split_name("./") == ()
    assert split_name("a..b/...c") == ("a..b", "...c")
