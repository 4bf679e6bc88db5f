"""An old MONAI, forced in beside this package, ends everything that would run it in one line that says what to type."""

from __future__ import annotations

import gc
import json
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from pipeline.bundle import StartupCheck
from pipeline.bundle.monai_import import OLDEST, import_monai, require_monai
from pipeline.commands.cli import main
from pipeline.issues import InputError
from tests.bundles.conftest import ROOT

OLD = ("1.4.0", "1.5.2", "1.6.0", "1.6.1rc0")
NEW = ("1.6.1", "1.6.2", "1.7.0rc1", "1.7.dev2640", "2.0", "0+unknown", "0+untagged.1.g1234567", "a branch")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """Let another version of MONAI be installed; None stands for none."""
    true = metadata.version

    def version(name: str, *, found: str | None) -> str:
        if name != "monai":
            return true(name)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    return lambda found: monkeypatch.setattr(metadata, "version", lambda name: version(name, found=found))


@pytest.mark.parametrize("found", OLD)
def test_what_runs_monai_refuses_an_old_one_in_one_line(
    found: str, install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(found)
    for start in (require_monai, import_monai, StartupCheck):
        with pytest.raises(
            InputError, match=rf"^MONAI {found} is installed, .*expected 1\.6\.1 or newer; type \S+ -m pip"
        ):
            start()
    for words in (["check", "isic_unet"], ["pack", "isic_unet", "-o", str(tmp_path / "x.zip")]):
        assert main(["bundle", *words]) == 1
        said = capsys.readouterr()
        assert said.err.startswith(f"error: MONAI {found} is installed")
        assert said.err.count("\n") == 1
    assert main(["bundle", "audit", "isic_unet"]) == 0, "an audit runs nothing"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("found", NEW)
def test_newer_ones_and_checkouts_are_tried(found: str, install) -> None:
    install(found)
    require_monai()
    StartupCheck()


def test_a_checkout_on_the_path_is_tried_and_no_monai_is_named(install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(None)
    require_monai()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^MONAI is not installed; type "):
        require_monai()


def test_the_command_in_the_line_installs_what_the_package_declares(install) -> None:
    install(OLD[0])
    with pytest.raises(InputError) as caught:
        require_monai()
    python, *words, wanted = shlex.split(str(caught.value).partition("type ")[2])
    assert (python, words) == (sys.executable, ["-m", "pip", "install"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = next(need for need in map(Requirement, project["dependencies"]) if need.name == "monai")
    assert Requirement(wanted).specifier == declared.specifier
    assert OLDEST in declared.specifier
    assert not any(Version(found) in declared.specifier for found in OLD)


def test_a_command_of_monai_ends_in_one_line(tmp_path: Path) -> None:
    """As a receiver types it, with the metadata of an old MONAI before those of the true one."""
    info = tmp_path / "monai-1.5.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: monai\nVersion: 1.5.2\n")
    config = {"bundle_root": ".", "initialize": [], "run": ["$print('it ran')"]}
    config["initialize"] = [
        {"_target_": "pipeline.handlers.OneLineErrors"},
        {"_target_": "pipeline.bundle.StartupCheck"},
    ]
    (tmp_path / "infer.json").write_text(json.dumps(config))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import runpy; sys.argv[0] = 'monai.bundle'; "
    code += "runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)"
    line = [sys.executable, "-c", code, "run", "--config_file", str(tmp_path / "infer.json")]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "it ran" not in done.stdout
    assert "MONAI 1.5.2 is installed, too old and not safe" in done.stderr.splitlines()[-1]


def test_the_collector_is_left_as_it_was() -> None:
    import_monai()
    assert gc.isenabled()
    code = "import gc; gc.disable(); from pipeline.bundle.monai_import import import_monai; import_monai()"
    done = subprocess.run([sys.executable, "-c", f"{code}; print(gc.isenabled())"], capture_output=True, check=True)
    assert done.stdout.decode().split() == ["False"]
