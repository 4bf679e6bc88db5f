"""Whatever differs from what was sent is named, nothing of it runs, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import pipeline
from pipeline.bundle.audit import audit_bundle
from pipeline.bundle.packing.verifying import verify_bundle
from pipeline.commands.cli import main
from pipeline.issues import InputError
from tests.bundle.packing.conftest import BUNDLE, NAME, ROOT, read_zip, rewrite_zip, seal

CONFIG = "configs/inference.json"


def list_findings(path: Path) -> list[tuple[str, str]]:
    return [(finding.code, finding.file) for finding in verify_bundle(path).errors]


def test_what_was_sent_is_verified(packed: Path, unpacked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = len(read_zip(packed)) - 1
    for path in (packed, unpacked):
        assert main(["bundle", "verify", str(path)]) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"{path}: all {number} files are as SHA256SUMS lists them",
            f"{path}: the wheel is the package that is installed here",
            f"{path}: models/model.pt and models/model.safetensors hold the same tensors",
            f"{path}: not signed",
        ]


def test_reference_case_computes_the_same_here(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["bundle", "verify", str(packed), "--reference"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "voxels have the sender's labels; probabilities differ by up to 0.00" in last
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


CHANGES = {
    "changed": ({CONFIG: b"{}\n"}, [("changed-file", CONFIG)]),
    "removed": ({CONFIG: None}, [("missing-file", CONFIG)]),
    "added": ({"docs/note.txt": b"x"}, [("extra-file", "docs/note.txt")]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_file_is_named(change: str, packed: Path, received: Path, tmp_path: Path) -> None:
    changes, wanted = CHANGES[change]
    assert list_findings(rewrite_zip(packed, tmp_path / "x.zip", changes)) == wanted
    for name, content in changes.items():
        (received / name).unlink() if content is None else (received / name).write_bytes(content)
    assert list_findings(received) == wanted


def test_command_ends_with_one_line(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rewrite_zip(packed, tmp_path / "x.zip", {CONFIG: b"{}\n"})
    assert main(["bundle", "verify", str(path), "--reference"]) == 1
    out = capsys.readouterr()
    assert out.err == f"error: {path}: changed-file {CONFIG}: 1 error; do not use it\n"
    with pytest.raises(SystemExit) as stop:
        main(["bundle", "verify"])
    assert stop.value.code == 2


@pytest.mark.parametrize("length", [0, 3, 1000, -1, -100])
def test_truncated_archive_is_one_line(
    length: int, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(packed.read_bytes()[:length])
    assert main(["bundle", "verify", str(path), "--reference"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error


def test_bundle_that_was_not_packed_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "verify", str(BUNDLE)]) == 1
    assert "has no SHA256SUMS; verify what python -m pipeline bundle pack made" in capsys.readouterr().err


def test_wheel_that_is_not_ours(packed: Path, received: Path, tmp_path: Path) -> None:
    (wheel,) = (name for name in read_zip(packed) if name.endswith(".whl"))
    with zipfile.ZipFile(received / wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["pipeline/issues.py"] += b"\nprint('evil')\n"
    with zipfile.ZipFile(received / wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    seal(received)
    assert list_findings(received) == []
    (finding,) = verify_bundle(received).findings
    assert (finding.level, finding.code, finding.file) == ("review", "wheel-differs", wheel)
    assert finding.why.startswith(f"it is another build of {pipeline.__version__}: ")
    assert finding.todo.startswith("keep your own package, or compare the wheel's digest with the sender's")


def test_other_weights_compute_something_else(received: Path) -> None:
    path = received / "models/model.pt"
    state = torch.load(path, weights_only=True)
    name = next(reversed([name for name in state if state[name].ndim == 1]))
    state[name] = state[name] + torch.linspace(-1, 1, len(state[name]))
    torch.save(state, path)
    seal(received)
    assert list_findings(received) == [("weights-differ", "models/model.pt")]
    (finding,) = verify_bundle(received).errors
    assert (finding.key, finding.why) == (name, "the tensor differs from that in models/model.safetensors")
    safetensors.torch.save_file(state, received / "models/model.safetensors")
    seal(received)
    assert list_findings(received) == []
    with pytest.raises(InputError, match=r"reference case: .* \(tolerance 0\.01\); compare your versions"):
        verify_bundle(received, reference=True)


def test_nothing_runs_that_the_audit_refuses(received: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    config = json.loads((received / CONFIG).read_text())
    config["evaluator"] = f"$__import__('pathlib').Path({str(canary)!r}).touch()"
    (received / CONFIG).write_text(json.dumps(config))
    seal(received)
    assert list_findings(received) == []
    found = verify_bundle(received, reference=True)
    assert {finding.file for finding in found.errors} == {CONFIG}
    assert not canary.exists()


def test_downloaded_weights_are_compared_with_their_digest(received: Path, tmp_path: Path) -> None:
    weights = received / "models/model.pt"
    sums = received / "SHA256SUMS"
    lines = {line.split("  ")[1]: line for line in sums.read_text().splitlines()}
    digest = lines.pop("models/model.pt").split()[0]
    text = f"large_files:\n- {{path: models/model.pt, url: 'https://a.org/m', hash_val: {digest}, hash_type: sha256}}\n"
    (received / "large_files.yml").write_text(text)
    sums.write_text("\n".join([*lines.values(), f"{digest}  large_files.yml"]) + "\n")
    seal(received)
    kept = weights.read_bytes()
    weights.unlink()
    assert "models/model.pt is to be downloaded" in verify_bundle(received).notes
    with pytest.raises(InputError, match="download_large_files --bundle_path"):
        verify_bundle(received, reference=True)
    weights.write_bytes(b"x")
    assert list_findings(received) == [("changed-file", "models/model.pt")]
    assert [(one.code, one.file) for one in audit_bundle(received).errors if one.code != "weights-legacy"] == [
        ("changed-file", "models/model.pt")
    ]
    weights.write_bytes(kept)
    assert audit_bundle(received).errors == [], "a file that was fetched with the right digest is not extra"
    assert any("reference case: all" in note for note in verify_bundle(received, reference=True).notes)


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Make pairs of keys, private and public, as the messages and the page say."""
    pytest.importorskip("model_signing", reason="the extra sign is not installed")
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl")

    def make(name: str) -> tuple[Path, Path]:
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub.pem"
        command = "openssl ecparam -name prime256v1 -genkey -noout -out"
        subprocess.run([*command.split(), str(private)], check=True, capture_output=True)
        command = f"openssl ec -in {private} -pubout -out {public}"
        subprocess.run(command.split(), check=True, capture_output=True)
        return private, public

    return make


def test_signature_holds_for_the_senders_key_only(
    make_key: Callable[[str], tuple[Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (private, public), (_, other) = make_key("mine"), make_key("other")
    archive, folder = tmp_path / "signed.zip", tmp_path / "signed"
    untrained = ROOT / "bundles" / "isic_unet"
    assert main(["bundle", "pack", str(untrained), "-o", str(archive), "--sign", str(private)]) == 0
    assert main(["bundle", "verify", str(archive)]) == 0
    assert "signed, not verified: name the sender's public key with --key" in capsys.readouterr().out
    assert main(["bundle", "verify", str(archive), "--key", str(public)]) == 0
    assert f"the signature is that of {public}" in capsys.readouterr().out
    assert main(["bundle", "unpack", str(archive), str(folder)]) == 0
    assert main(["bundle", "verify", str(folder), "--key", str(public)]) == 0
    assert main(["bundle", "verify", str(archive), "--key", str(other)]) == 1
    assert f"the signature is not that of {other}" in capsys.readouterr().err
    assert main(["bundle", "unpack", str(archive), str(tmp_path / "x" / "checked"), "--key", str(other)]) == 1
    assert f"the signature is not that of {other}" in capsys.readouterr().err
    assert not (tmp_path / "x").exists(), "nothing is left behind"
    assert main(["bundle", "unpack", str(archive), str(tmp_path / "x" / "checked"), "--key", str(public)]) == 0
    assert main(["bundle", "run", str(archive), "train", "--dry-run", "--key", str(other)]) == 1
    assert f"the signature is not that of {other}" in capsys.readouterr().err
    (folder / CONFIG).write_text("{}\n")
    seal(folder)
    assert main(["bundle", "verify", str(folder)]) == 0
    assert main(["bundle", "verify", str(folder), "--key", str(public)]) == 1
    assert CONFIG in capsys.readouterr().err
    assert main(["bundle", "verify", str(folder), "--key", str(tmp_path / "none")]) == 1
    assert "there is no file" in capsys.readouterr().err


def test_unsigned_bundle_and_wrong_private_key(
    make_key: Callable[[str], tuple[Path, Path]],
    packed: Path,
    unpacked: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, public = make_key("mine")
    assert main(["bundle", "verify", str(packed), "--key", str(public)]) == 1
    assert f"{NAME} is not signed" in capsys.readouterr().err
    from pipeline.bundle.packing.signature import sign_folder

    with pytest.raises(InputError, match="is not a private key that can sign"):
        sign_folder(unpacked, public)
