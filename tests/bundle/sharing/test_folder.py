"""A bundle travels through a shared folder: only if it is clean, never under a name that meant other bytes."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from pipeline.commands.cli import main
from tests.bundle.sharing.conftest import NAME, digest, pack
from tests.disks import mount_tmpfs


def call(*words: object) -> int:
    return main(["bundle", *map(str, words)])


def read_line(text: str, head: str) -> str:
    (line,) = (line for line in text.splitlines() if line.startswith(head))
    return line.removeprefix(head).strip()


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def share(tmp_path: Path) -> Path:
    folder = tmp_path / "a share"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("form", ["folder", "file", "address"])
def test_round_trip_with_the_command_that_push_prints(
    form: str, archive: Path, share: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "other name.zip" if form == "file" else archive.name
    assert call("push", archive, {"folder": share, "file": share / name, "address": share.as_uri()}[form]) == 0
    out = capsys.readouterr().out
    assert read_line(out, "place:") == f"{(share / name).as_uri()}#sha256={digest(archive)}"
    assert list_files(share) == {name}
    words = shlex.split(read_line(out, "pull:"))
    assert words[:4] == ["python", "-m", "pipeline", "bundle"]
    assert call(*words[4:]) == 0
    out = capsys.readouterr().out
    assert list(workplace.iterdir()) == [workplace / NAME]
    assert len(list_files(workplace / NAME)) == 7
    assert out.splitlines()[:2] == [f"{NAME}: 7 files from {share / name}", f"sha256: {digest(archive)}"]
    assert call(*shlex.split(read_line(out, "verify:"))[4:]) == 0


def test_a_name_never_means_other_bytes(archive: Path, share: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("push", archive, share) == 0
    assert call("push", archive, share) == 0, "the same bytes"
    first = archive.read_bytes()
    pack(archive, {"docs/README.md": b"# Spleen, newer\n"})
    capsys.readouterr()
    assert call("push", archive, share) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "exists with other bytes, and receivers may have its digest; name a new file, such as spleen_2.zip" in error
    assert (share / archive.name).read_bytes() == first
    assert call("push", archive, share / "spleen_2.zip") == 0
    assert list_files(share) == {"spleen.zip", "spleen_2.zip"}


def damage(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-30])


def hide_code(archive: Path) -> None:
    pack(archive, {"scripts/evil.py": b"import os\n"})


def change_after_packing(archive: Path) -> None:
    import zipfile

    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(f"{NAME}/docs/note.txt", "x")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(damage, "archive-damaged"), (hide_code, "unexpected-code"), (change_after_packing, "extra-file")],
)
def test_what_is_not_clean_does_not_leave_the_house(
    spoil: object, words: str, archive: Path, share: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(archive)
    assert call("push", archive, share) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{archive} is not pushed: {words}" in error
    assert list(share.iterdir()) == []
    hint = shlex.split(error.rpartition("see all: ")[2])
    assert call(*hint[4:]) == 1
    assert words in capsys.readouterr().out


def test_push_says_what_to_type(archive: Path, share: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def complain(*words: object) -> str:
        assert call("push", *words) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    command = f"pack it first: python -m pipeline bundle pack {archive.parent} -o home.zip"
    assert command in complain(archive.parent, share)
    assert f"bundle pack '{share}' -o 'a share.zip'" in complain(share, share)
    assert "make it: python -m pipeline bundle pack BUNDLE -o FILE.zip" in complain("lgg_unet", share)
    assert "there is no folder" in complain(archive, tmp_path / "unmounted" / "x.zip")
    assert "there is no folder" in complain(archive, tmp_path / "unmounted")
    assert "--create and --public are for hf://" in complain(archive, share, "--create")
    assert f"sha256 is {digest(archive)}, not {64 * '0'}" in complain(archive, f"{share}#sha256={64 * '0'}")
    web = complain(archive, "https://lab.org/spleen.zip")
    assert f"tell the receiver https://lab.org/spleen.zip#sha256={digest(archive)}, or push to hf://" in web
    with pytest.raises(SystemExit) as stop:
        call("push", archive, share, "--public")
    assert stop.value.code == 2


def test_pull_needs_a_digest(archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("--sha256", "12"), ("--sha256", "0" * 64)):
        place = archive if len(words) == 0 or words[1] == "12" else f"{archive}#sha256={'1' * 64}"
        with pytest.raises(SystemExit) as stop:
            call("pull", place, NAME, *words)
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        if not words:
            assert (
                "add #sha256=DIGEST to the place, as bundle push printed it, or --sha256 DIGEST; ask the sender"
                in error
            )
    assert call("pull", archive, NAME, "--sha256", digest(archive).upper()) == 0


def test_nothing_is_left_of_what_is_not_the_bundle(
    archive: Path, workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def complain(place: Path, sha256: str, folder: str = "new/spleen", *words: object) -> str:
        capsys.readouterr()
        assert call("pull", place, folder, "--sha256", sha256, *words) == 1
        assert list(workplace.iterdir()) == []
        line = capsys.readouterr().err.splitlines()[-1]
        assert ".archives" not in line
        return line

    assert f"{archive}: sha256 is {digest(archive)}, expected {64 * '0'}" in complain(archive, 64 * "0")
    text = tmp_path / "notes.zip"
    text.write_text("no archive")
    assert f"{text} is not a zip file" in complain(text, digest(text))
    assert "there is no file" in complain(tmp_path / "absent.zip", 64 * "0")
    assert "has 0 zip files, expected one: none; name the file" in complain(workplace, 64 * "0")
    evil = pack(tmp_path / "evil.zip", {"scripts/evil.py": b"import os\n"})
    assert f"error: {evil}: unexpected-code: 1 error" in complain(evil, digest(evil))
    pytest.importorskip("model_signing", reason="the extra sign is not installed")
    assert "--key: spleen is not signed" in complain(archive, digest(archive), "new/spleen", "--key", archive)


def test_what_a_killed_pull_left_does_not_disturb(archive: Path, workplace: Path) -> None:
    left = workplace / f"{NAME}.archives" / "work" / NAME / "configs"
    left.mkdir(parents=True)
    (left.parents[2] / ".lock").touch()
    assert call("pull", archive, NAME, "--sha256", digest(archive)) == 0
    assert list(workplace.iterdir()) == [workplace / NAME]


def test_existing_folder_stays(archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / NAME).mkdir()
    assert call("pull", archive, NAME, "--sha256", digest(archive)) == 1
    assert f"{NAME} exists; name a new folder" in capsys.readouterr().err
    assert list(workplace.rglob("*")) == [workplace / NAME]


@pytest.mark.parametrize("full", ["receiver", "share"])
def test_full_disk_is_one_line_and_leaves_nothing(
    full: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(archive, {"docs/noise.txt": os.urandom(1_500_000).hex().encode()})
    with mount_tmpfs(tmp_path / "small", "size=1m") as small:
        words = (
            ("pull", archive, small / NAME, "--sha256", digest(archive))
            if full == "receiver"
            else ("push", archive, small)
        )
        assert call(*words) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith(f"error: output-space: {small}")
        assert list(small.iterdir()) == []


def test_two_pulls_at_once_do_not_disturb_each_other(
    archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.bundle.sharing import pulling

    with pulling._make_workplace(workplace / NAME):
        assert call("pull", archive, NAME, "--sha256", digest(archive)) == 1
    assert "another process is downloading into" in capsys.readouterr().err
    assert call("pull", archive, NAME, "--sha256", digest(archive)) == 0
    shutil.rmtree(workplace / NAME)
    assert list(workplace.iterdir()) == []
