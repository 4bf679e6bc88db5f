"""A bundle is pulled from an https server: only its bytes, only encrypted, and a broken download resumes."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from pipeline.commands.cli import main
from tests.bundle.sharing.conftest import NAME, Authority, digest, pack
from tests.datasets.download.conftest import Act, Server
from tests.disks import mount_tmpfs


def pull(place: str, archive: Path, *words: object, folder: object = NAME) -> int:
    return main(["bundle", "pull", place, str(folder), "--sha256", digest(archive), *map(str, words)])


@pytest.fixture
def large(archive: Path) -> Path:
    """Return a bundle of some 600 kB."""
    return pack(archive, {"docs/noise.txt": os.urandom(600_000).hex().encode()})


@pytest.fixture
def place(web: Server, archive: Path) -> str:
    web.files = {"a b.zip": archive.read_bytes(), "a%20b.zip": archive.read_bytes()}
    return web.url("a%20b.zip")


def test_pull(place: str, archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "pull", f"{place}#sha256={digest(archive)}", f"received/{NAME}"]) == 0
    assert capsys.readouterr().out.startswith(f"received/{NAME}: 7 files from {place}\nsha256: {digest(archive)}\n")
    assert [path.name for path in (workplace / "received").iterdir()] == [NAME]


def complain(capsys: pytest.CaptureFixture[str], workplace: Path, place: str, archive: Path, *left: str) -> str:
    """Pull in vain; return the last line, after a look at what is left."""
    capsys.readouterr()
    assert pull(place, archive) == 1
    assert sorted(path.name for path in workplace.rglob("*")) == sorted(left)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]


def test_server_that_does_not_give_the_file(
    place: str, web: Server, archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hint = "; or get the file by other means, and pull from its path instead of the address"
    for status, reason in ((404, "Not Found"), (401, "Unauthorized"), (403, "Forbidden")):
        web.script = [Act(status=status)]
        line = complain(capsys, workplace, place, archive)
        assert f"{place} answered {status} {reason}" in line
        assert line.endswith(hint)
    web.script = [Act(headers={"Content-Type": "text/html"})]
    assert "a web page instead of an archive" in complain(capsys, workplace, place, archive)
    web.script = [Act(headers={"Content-Length": str(10**12)})]
    assert "has 1.0 TB, expected at most 32.0 GB" in complain(capsys, workplace, place, archive)
    assert pull(str(archive), archive) == 0, "the hint"


def test_other_bytes_than_the_digest_says(
    place: str, web: Server, archive: Path, workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = pack(tmp_path / "swapped.zip", {"docs/README.md": b"# Spleen, newer\n"})
    web.files["a%20b.zip"] = swapped.read_bytes()
    line = complain(capsys, workplace, place, archive)
    assert f"{place}: sha256 is {digest(swapped)}, expected {digest(archive)}" in line
    web.files["a%20b.zip"] = archive.read_bytes()[:-10]
    web.length = False
    assert f"expected {digest(archive)}" in complain(capsys, workplace, place, archive)


def test_what_is_not_a_zip_file(
    place: str, web: Server, workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("<html>")
    web.files["a%20b.zip"] = text.read_bytes()
    assert f"{place} is not a zip file: it begins with b'<htm'" in complain(capsys, workplace, place, text)


def test_truncated_download_resumes(
    web: Server, large: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.files = {"x.zip": large.read_bytes()}
    web.script = [Act(cut=200_000)] + 5 * [Act(cut=0)]
    part = f"{digest(large)[:12]}_x.zip.part"
    left = (f"{NAME}.archives", part, f"{part}.json")
    line = complain(capsys, workplace, web.url("x.zip"), large, *left)
    assert f"200.0 kB are kept in {NAME}.archives/{part}, the same command resumes there" in line
    web.script, before = [], web.sent
    assert pull(web.url("x.zip"), large) == 0
    assert web.sent - before == len(large.read_bytes()) - 200_000
    assert [path.name for path in workplace.iterdir()] == [NAME]


def test_redirects_stay_encrypted(
    place: str, web: Server, archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_server = Server()
    open_server.files = web.files
    web.script = [Act(status=302, headers={"Location": open_server.url("a%20b.zip")})]
    line = complain(capsys, workplace, place, archive)
    assert f"{place} redirects to {open_server.url('a%20b.zip')}, which is not followed" in line
    assert open_server.requests == []
    open_server.close()
    web.script = [Act(status=302, headers={"Location": "/a%20b.zip"})]
    assert pull(f"{web.base}/latest", archive) == 0


def test_certificates_are_checked(
    place: str,
    web: Server,
    archive: Path,
    workplace: Path,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = place.replace("127.0.0.1", "localhost")
    line = complain(capsys, workplace, other, archive)
    assert "certificate verify failed: Hostname mismatch, certificate is not valid for 'localhost'" in line
    assert "SSL_CERT_FILE" not in line
    monkeypatch.delenv("SSL_CERT_FILE")
    line = complain(capsys, workplace, place, archive)
    assert "certificate verify failed" in line
    assert "if your network has its own authority, set SSL_CERT_FILE to the file of its certificates" in line
    assert web.requests == []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    assert pull(place, archive) == 0, "the hint"


def test_offline(web: Server, place: str, archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web.close()
    line = complain(capsys, workplace, place, archive)
    assert "refused" in line.lower()
    assert "(tried 3 times)" in line


def test_full_disk(
    web: Server, large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files = {"x.zip": large.read_bytes()}
    with mount_tmpfs(tmp_path / "small", "size=1m") as small:
        assert pull(web.url("x.zip"), large, folder=small / NAME) == 1  # arrives, but does not unpack
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert "output-space" in line
        assert list(small.iterdir()) == []
        (small / "ballast").write_bytes(bytes(700_000))
        assert pull(web.url("x.zip"), large, folder=small / NAME) == 1
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert "free some space or choose another folder (the same command resumes the download)" in line
        assert [path.name for path in small.iterdir()] == ["ballast"]
    assert pull(web.url("x.zip"), large, folder=tmp_path / NAME) == 0, "the hint"


def test_signature_is_verified_before_the_folder_has_its_name(
    web: Server, workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("model_signing", reason="the extra sign is not installed")
    import shutil
    import subprocess

    from pipeline.bundle.packing.signature import SIGNATURE, sign_folder
    from pipeline.bundle.packing.unpacking import unpack_bundle

    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")
    for name in ("mine", "other"):
        make = f"openssl ecparam -name prime256v1 -genkey -noout -out {tmp_path / name}.pem"
        subprocess.run(shlex.split(make), check=True, capture_output=True)
        make = f"openssl ec -in {tmp_path / name}.pem -pubout -out {tmp_path / name}.pub"
        subprocess.run(shlex.split(make), check=True, capture_output=True)
    assert unpack_bundle(pack(tmp_path / "plain.zip"), tmp_path / NAME).errors == []
    signature = sign_folder(tmp_path / NAME, tmp_path / "mine.pem")
    import zipfile

    archive = tmp_path / "signed.zip"
    shutil.copy(tmp_path / "plain.zip", archive)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(f"{NAME}/{SIGNATURE}", signature)
    web.files = {"x.zip": archive.read_bytes()}
    assert pull(web.url("x.zip"), archive, "--key", tmp_path / "other.pub") == 1
    assert f"the signature is not that of {tmp_path / 'other.pub'}" in capsys.readouterr().err
    assert list(workplace.iterdir()) == []
    assert pull(web.url("x.zip"), archive, "--key", tmp_path / "mine.pub") == 0
    assert f"signed by the owner of {tmp_path / 'mine.pub'}" in capsys.readouterr().out
