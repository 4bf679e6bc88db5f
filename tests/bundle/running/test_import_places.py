"""A folder that somebody sent holds files named like modules: no command that its README names runs them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.bundle.render import render
from tests.bundle.audit.bundles import make_files, write_folder

MODULES = ("argparse", "contextlib", "difflib", "hashlib", "json", "monai", "numpy", "pip", "pipeline", "re", "runpy")
MODULES += ("sitecustomize", "subprocess", "tempfile", "torch", "typing", "usercustomize", "venv", "warnings", "yaml")
README = {
    **{"title": "T", "task": "", "intended_use": "", "distribution": "d", "version": "1", "python": "3.11"},
    **{"wheel": "wheels/w.whl", "weights": True, "reference": True, "exact": True, "obstacle": ""},
    **{"downloads": {"models/model.pt": "00"}, "data_licence": ""},
}


def make_hostile(tmp_path: Path, modules: tuple[str, ...]) -> tuple[Path, Path]:
    """Return a bundle's folder with such files, and the file that one of them would write."""
    canary = tmp_path / "canary"
    code = f"open({str(canary)!r}, 'a').close()\n"
    files = {f"{name}.py": code.encode() for name in modules}
    files |= {f"{name}/__init__.py": code.encode() for name in modules if name in ("pipeline", "torch")}
    text = render("receive.txt", README).encode()
    folder = write_folder({**make_files(), **files, "README.txt": text}, tmp_path / "received")
    (folder / "configs/inference.json").write_bytes((folder / "configs/train.json").read_bytes())
    (folder / "evil.pth").write_text(f"import os; {code}")
    return folder, canary


def list_commands() -> list[list[str]]:
    lines = [line.strip() for line in render("receive.txt", README).splitlines() if line.startswith("    ")]
    return [shlex.split(part) for line in lines for part in line.split(" && ")]


def test_the_commands_of_the_readme_import_nothing_from_its_folder(tmp_path: Path) -> None:
    folder, canary = make_hostile(tmp_path, MODULES)
    started = []
    for program, *words in list_commands():
        name = Path(program).name
        if name == "sha256sum":
            continue
        if name == "pipeline":
            script = Path(sys.executable).with_name("pipeline")
            if not script.is_file():
                pytest.skip("the package is not installed, so there is no command pipeline")
            command = [str(script), *words]
        else:
            assert words[:2] == ["-I", "-m"], f"{words}: Python would import from the current folder"
            if words[2] == "monai.bundle":  # as slow as torch, and started in the same way
                continue
            command = [sys.executable, *words[:3], "--help"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        started.append((words[1] if name == "pipeline" else words[2], done.returncode))
        assert not canary.exists(), command
    assert started == [("venv", 0), ("pip", 0), ("verify", 1), ("run", 1)]
    # The files are real: without -I they run.
    subprocess.run([sys.executable, "-m", "pip", "--help"], cwd=folder, capture_output=True, check=False)
    assert canary.exists()


@pytest.mark.parametrize("verb", ["audit", "run"])
def test_python_m_pipeline_prefers_pythons_own_modules(verb: str, tmp_path: Path) -> None:
    """Without isolation, Python itself imports a few modules before; all that comes later is safe."""
    folder, canary = make_hostile(tmp_path, ("argparse", "difflib", "hashlib", "json", "tempfile", "yaml", "fire"))
    words = ["bundle", verb, ".", *(["inference"] if verb == "run" else [])]
    place = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        **{"cwd": folder, "env": {**os.environ, **place}, "capture_output": True, "text": True, "check": False},
    )
    assert done.returncode == 1
    assert "unexpected-code fire.py" in done.stdout + done.stderr
    assert not canary.exists()
