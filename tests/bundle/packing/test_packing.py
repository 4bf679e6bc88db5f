"""What a packed bundle holds, that the same bundle gives the same bytes, and that a receiver can use it."""

from __future__ import annotations

import ast
import getpass
import hashlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from monai.bundle import ConfigParser, run

import pipeline
from pipeline.bundle.packing.package_wheel import build_wheel
from pipeline.bundle.packing.travelling_files import collect_files
from pipeline.commands.cli import main
from pipeline.datasets.phantoms import write_isic_phantom
from pipeline.issues import InputError
from tests.bundle.packing.conftest import BUNDLE, NAME, ROOT, read_zip

UNTRAINED = ROOT / "bundles" / "isic_unet"


def copy_bundle(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder / source.name))


def list_commands(text: str) -> list[list[str]]:
    """Return the commands of a README, with this Python's command ``pipeline``."""
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("    ")]
    script = Path(sys.executable).with_name("pipeline")
    start = [str(script)] if script.is_file() else [sys.executable, "-P", "-m", "pipeline"]
    return [[*start, *words[1:]] for words in lines if words[0] == "../env/bin/pipeline"]


def test_members_have_one_time_and_mode_and_are_sorted(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        infos = archive.infolist()
    assert {(info.date_time, info.external_attr >> 16, info.compress_type) for info in infos} == {
        ((1980, 1, 1, 0, 0, 0), 0o100644, zipfile.ZIP_STORED)
    }
    names = [info.filename for info in infos]
    assert names == sorted(names)
    assert {name.partition("/")[0] for name in names} == {NAME}


def test_nothing_of_this_machine_travels(packed: Path) -> None:
    words = {str(ROOT), str(Path.home()), socket.gethostname(), getpass.getuser()}
    words = {word for word in words if len(word) > 4}  # shorter ones are parts of words
    for name, content in read_zip(packed).items():
        if not name.endswith((".pt", ".safetensors", ".whl")):
            assert [word for word in words if word.encode() in content] == [], name
            assert b"\r\n" not in content or name.endswith((".png", ".gz")), name


def test_digests_cover_all_files(packed: Path) -> None:
    files = read_zip(packed)
    listed = dict(reversed(line.split("  ", 1)) for line in files.pop("SHA256SUMS").decode().splitlines())
    assert listed == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def test_weights_travel_in_both_forms(packed: Path) -> None:
    files = read_zip(packed)
    assert files["models/model.pt"] == (BUNDLE / "models/model.pt").read_bytes()
    wanted = torch.load(BUNDLE / "models/model.pt", weights_only=True)
    got = safetensors.torch.load(files["models/model.safetensors"])
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_configs_are_those_of_the_bundle_but_for_its_root(packed: Path) -> None:
    files = read_zip(packed)
    for path in (BUNDLE / "configs").iterdir():
        content = files[f"configs/{path.name}"]
        if path.suffix == ".json":
            wanted = json.loads(path.read_text())
            assert json.loads(content) == ({**wanted, "bundle_root": "."} if "bundle_root" in wanted else wanted)
        else:
            assert content == path.read_bytes()


def test_origin_and_materials(packed: Path) -> None:
    files = read_zip(packed)
    origin = json.loads(files["provenance.json"])
    manifest = hashlib.sha256((BUNDLE / "configs/manifest.json").read_bytes()).hexdigest()
    metadata = json.loads((BUNDLE / "configs/metadata.json").read_text())
    assert (origin["bundle"], origin["version"]) == (NAME, metadata["version"])
    assert origin["manifest_sha256"] == manifest
    assert origin["scores"]["validation_score"] == metadata["validation_score"]
    assert origin["versions"]["monai"] == metadata["monai_version"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (origin["packed_by"]["git"] or {}).get("revision", "") == head.stdout.strip()
    bom = json.loads(files["bom.cdx.json"])
    parts = {part["bom-ref"]: part for part in bom["components"]}
    assert (bom["bomFormat"], bom["metadata"]["component"]["name"]) == ("CycloneDX", NAME)
    assert bom["metadata"]["timestamp"].startswith("1980-01-01T00:00:00")
    assert parts["models/model.pt"]["hashes"][0]["content"] == origin["weights_sha256"]["models/model.pt"]
    pins = [line for line in files["requirements.txt"].decode().splitlines() if line[0] != "#"]
    assert {f"pkg:pypi/{pin.replace('==', '@')}" for pin in pins} < set(parts)
    assert f"monai=={origin['versions']['monai']}" in pins
    assert "pytest" not in files["requirements.txt"].decode(), "what only developers need"


def test_run_record_travels_without_command_and_folders(tmp_path: Path) -> None:
    from pipeline.bundle.packing.provenance import describe_origin

    bundle = copy_bundle(UNTRAINED, tmp_path)
    (bundle / "models").mkdir()
    record = {"command": "python --dataset_dir /data/secret", "dataset_dir": "/data/secret", "seed": 3}
    text = json.dumps({**record, "manifest": {"path": "/data/secret/m.json", "sha256": "ab"}})
    (bundle / "models/run.json").write_text(text)
    files = collect_files(bundle)
    assert "models/run.json" not in files
    assert describe_origin(bundle, files, [], "")["run"] == {"seed": 3, "manifest": "ab"}


def test_reference_case_is_worth_comparing(packed: Path) -> None:
    files = read_zip(packed)
    expected = safetensors.numpy.load(files["reference/expected.safetensors"])
    assert expected["labels"].shape == (1, *expected["probabilities"].shape[1:])
    assert expected["labels"].any(), "the network finds something"
    assert expected["probabilities"].dtype == np.uint8
    assert sum(len(content) for name, content in files.items() if name.startswith("reference/")) < 800_000
    images = [name for name in files if name.startswith("reference/input/")]
    assert len(images) == 1
    assert images[0].endswith(".nii.gz")


def test_wheel_is_this_package_and_gives_the_same_wheel_again(packed: Path, tmp_path: Path) -> None:
    (name,) = (name for name in read_zip(packed) if name.startswith("wheels/"))
    wheel = tmp_path / Path(name).name
    wheel.write_bytes(read_zip(packed)[name])
    assert build_wheel() == (wheel.name, wheel.read_bytes())
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(pip, check=True)
    assert (target / "bin" / "pipeline").is_file()
    code = "import pipeline, hashlib; from pipeline.bundle.packing.package_wheel import build_wheel"
    code += "; print(pipeline.__file__); print(hashlib.sha256(build_wheel()[1]).hexdigest())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    place, digest = done.stdout.splitlines()
    assert Path(place).parent == target / "pipeline"
    assert digest == hashlib.sha256(wheel.read_bytes()).hexdigest()
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pipeline").rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        assert {member for member in archive.namelist() if member.endswith(".py")} == {
            *ours,
            "monai_segmentation_suite.py",
        }


def test_commands_of_the_readme_verify_and_predict(received: Path, tmp_path: Path) -> None:
    commands = list_commands((received / "README.txt").read_text())
    assert [words[words.index("bundle") + 1] for words in commands] == ["verify", "run"]
    assert "../env/bin/python -I -m pip install -r requirements.txt wheels/" in (received / "README.txt").read_text()
    for command in commands:
        done = subprocess.run(command, cwd=received, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    check_prediction(received, tmp_path / "predictions")
    assert main(["bundle", "verify", str(received)]) == 0, "predicting leaves nothing in the bundle"


@pytest.mark.parametrize("startup", [True, False])
def test_runs_from_its_folder_and_from_elsewhere(
    startup: bool, received: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((received / "configs/inference.json").read_text())
    if not startup:
        config["initialize"] = config["initialize"][2:]
        (received / "configs/inference.json").write_text(json.dumps(config))
    options = {"input": str(received / "reference/input"), "amp": False, "logging_file": False}
    monkeypatch.chdir(received)
    run(config_file="configs/inference.json", output_dir=str(tmp_path / "here"), **options)
    check_prediction(received, tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    root = {} if startup else {"bundle_root": NAME}
    run(config_file=f"{NAME}/configs/inference.json", output_dir=str(tmp_path / "there"), **options, **root)
    check_prediction(received, tmp_path / "there")


def check_prediction(bundle: Path, folder: Path) -> None:
    (path,) = folder.rglob("*_pred.nii.gz")
    labels = np.asarray(nib.load(path).dataobj)
    expected = safetensors.numpy.load_file(bundle / "reference/expected.safetensors")["labels"][0]
    assert np.array_equal(labels, expected)


def test_bundle_without_weights_is_packed_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cyclonedx", reason="the extra pack is not installed")
    bundle = copy_bundle(UNTRAINED, tmp_path)
    manifest = write_isic_phantom(tmp_path / "phantom", images=4, size=32)
    (bundle / "output").mkdir()
    (bundle / "docs/README.md").write_bytes(b"# Card\r\n")
    archive = tmp_path / "x.zip"
    assert main(["bundle", "pack", str(bundle), "-o", str(archive), "--manifest", str(manifest)]) == 0
    out = capsys.readouterr()
    assert "without a reference case: there are no weights in models/model.pt\n" in out.err
    assert "not packed: output\n" in out.err
    files = read_zip(archive)
    assert files["docs/README.md"] == b"# Card\n"
    assert files["configs/manifest.json"] == manifest.read_bytes()
    parser = ConfigParser(json.loads(files["configs/train.json"]))
    assert ast.literal_eval(repr(parser.get_parsed_content("manifest"))) == "./configs/manifest.json"
    assert "MODEL.pt is that of a training" in files["README.txt"].decode()
    assert "--reference" not in files["README.txt"].decode()
    assert not any(name.startswith(("reference/", "models/")) for name in files)
    assert main(["bundle", "verify", str(archive)]) == 0
    assert main(["bundle", "verify", str(archive), "--reference"]) == 1
    assert "has no reference case" in capsys.readouterr().err


def spoil_with_code(bundle: Path) -> None:
    (bundle / "scripts").mkdir()
    (bundle / "scripts/net.py").write_text("")


def spoil_with_path(bundle: Path) -> None:
    (bundle / "docs/README.md").write_text("Trained in /home/jdoe/project\n")


def spoil_with_scan(bundle: Path) -> None:
    (bundle / "models").mkdir()
    (bundle / "models/case.nii.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_with_code, "scripts/net.py is code"),
        (spoil_with_path, "home-path docs/README.md line 1"),
        (spoil_with_scan, "picture models/case.nii.gz"),
    ],
)
def test_bundle_with_errors_is_refused(
    spoil: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cyclonedx", reason="the extra pack is not installed")
    bundle = copy_bundle(UNTRAINED, tmp_path)
    spoil(bundle)
    assert main(["bundle", "pack", str(bundle), "-o", str(tmp_path / "x.zip")]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.zip*"))


def test_large_weights_stay_at_home_and_are_listed(tmp_path: Path) -> None:
    bundle = copy_bundle(BUNDLE, tmp_path)
    digest = hashlib.sha256((bundle / "models/model.pt").read_bytes()).hexdigest()
    entry = "large_files:\n- path: models/model.pt\n  url: https://example.org/model.pt\n  hash_val: {}\n"
    (bundle / "large_files.yml").write_text(entry.format(digest) + "  hash_type: sha256\n")
    assert "models/model.pt" not in collect_files(bundle)
    (bundle / "large_files.yml").write_text(entry.format("0" * 64))
    with pytest.raises(InputError, match=r"model\.pt is not the file that large_files\.yml names"):
        collect_files(bundle)


@pytest.mark.parametrize(
    ("module", "extra", "arguments"), [("cyclonedx", "pack", []), ("model_signing", "sign", ["--sign", "key.pem"])]
)
def test_missing_extra_is_named(
    module: str,
    extra: str,
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if extra == "sign":
        pytest.importorskip("cyclonedx", reason="the extra pack is not installed")
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["bundle", "pack", str(UNTRAINED), "-o", str(tmp_path / "x.zip"), *arguments]) == 1
    error = capsys.readouterr().err
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][extra]
    assert error.endswith(f"type python -m pip install {' '.join(json.dumps(need) for need in needs)}\n")
    assert list(tmp_path.iterdir()) == []


def test_version_of_the_package_is_that_of_the_wheel() -> None:
    assert build_wheel()[0] == f"monai_segmentation_suite-{pipeline.__version__}-py3-none-any.whl"


def test_build_files_of_a_checkout_are_not_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python finds a checkout's ``.egg-info`` first, in the current folder; a wheel of it has no metadata."""
    from pipeline.bundle.packing.package_wheel import find_distribution

    (tmp_path / "monai_segmentation_suite.egg-info").mkdir()
    (tmp_path / "monai_segmentation_suite.egg-info" / "PKG-INFO").write_text("Name: monai-segmentation-suite\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_distribution().read_text("METADATA")
