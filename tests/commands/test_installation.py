"""Report another installed package `pipeline` in one line; a checkout, an editable install and a wheel are quiet."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.commands.installation import DISTRIBUTION

ENTRY = "import sys; from monai_segmentation_suite import main; sys.exit(main())"


@pytest.fixture
def rival(tmp_path: Path) -> Path:
    """Site folder with the distribution ``other-pipeline`` and its package `pipeline`."""
    site = tmp_path / "site"
    info = site / "other_pipeline-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-pipeline\nVersion: 1.0\n")
    (info / "RECORD").write_text("other_pipeline-1.0.dist-info/METADATA,,\npipeline/__init__.py,,\n")
    (site / "pipeline").mkdir()
    (site / "pipeline" / "__init__.py").touch()
    return site


def run(code: list[str], words: list[str], path: list[Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, *code, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cwd)


LIST = ["dataset", "download", "--list"]


@pytest.mark.parametrize("code", [["-m", "pipeline"], ["-c", ENTRY]])
def test_a_hidden_rival_is_a_warning(repository: Path, rival: Path, tmp_path: Path, code: list[str]) -> None:
    done = run(code, LIST, [repository, rival], tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: other-pipeline also installs a Python package named 'pipeline'")
    assert done.stderr.count("\n") == 1


def test_a_rival_that_hides_ours_is_an_error_of_the_command(repository: Path, rival: Path, tmp_path: Path) -> None:
    done = run(["-c", ENTRY], LIST, [rival, repository], tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    place = rival / "pipeline" / "__init__.py"
    assert done.stderr.startswith(f"error: the name 'pipeline' leads to {place}, which is not the package of")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("code", [["-m", "pipeline"], ["-c", ENTRY]])
def test_a_checkout_is_quiet(repository: Path, tmp_path: Path, code: list[str]) -> None:
    done = run(code, LIST, [repository], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wheel_is_quiet(repository: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "monai_segmentation_suite.py"):
        shutil.copy(repository / name, source)
    # Other tests write byte code meanwhile.
    shutil.copytree(repository / "pipeline", source / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", str(tmp_path / "site"), str(source)], check=True)
    assert (tmp_path / "site" / "bin" / "pipeline").is_file()
    done = run(["-c", ENTRY], LIST, [tmp_path / "site"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_name_is_the_distribution_s(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
