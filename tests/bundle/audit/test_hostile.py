"""Every hostile or broken bundle gets its code, as a folder and as a zip file, and none of its code runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle.audit import audit_bundle
from pipeline.bundle.audit.codes import CODES
from tests.bundle.audit.bundles import list_codes, make_files, write_folder, write_zip
from tests.bundle.audit.hostile import CANARY, CASES, LIVE, LOGS


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new current folder, in which a payload would leave its file."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_harmless_bundle_is_clean(tmp_path: Path) -> None:
    assert list_codes(audit_bundle(write_folder(make_files(), tmp_path / "spleen"))) == set()
    assert list_codes(audit_bundle(write_zip(make_files(), tmp_path / "spleen.zip"))) == set()


@pytest.mark.parametrize(
    "config",
    [
        {"paths": {"writer": "out.csv"}, "people": {"reader": "Dr. Smith"}},  # no class has these arguments
        {"base": {"lr": 3}, "my-net.v 2": "%base"},  # no code can be written with these characters
    ],
)
def test_what_only_looks_hostile(config: dict[str, Any], tmp_path: Path) -> None:
    assert list_codes(audit_bundle(write_folder(make_files(config), tmp_path / "spleen"))) == set()


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_bundle_gets_its_code(name: str, tmp_path: Path, here: Path) -> None:
    make, code = CASES[name]
    files = make()
    # Giants are written once: as zip files they would be bombs.
    ways = [write_folder(files, tmp_path / "spleen")]
    ways += [write_zip(files, tmp_path / "spleen.zip")] if sum(map(len, files.values())) < 2_000_000 else []
    for way in ways:
        result = audit_bundle(way)
        assert code in list_codes(result), result.format()
        assert bool(result.errors) == any(finding.level == "error" for finding in result.findings)
        if CODES[code].level == "error":
            assert result.errors
        assert all(finding.one_line().isprintable() for finding in result.findings)
        assert len(result.format()) < 200_000
    assert os.listdir(here) == []


@pytest.mark.parametrize("name", sorted(LIVE))
def test_the_payloads_are_real(name: str, tmp_path: Path, here: Path) -> None:
    """MONAI runs what the audit refuses: a payload that does nothing would prove nothing."""
    from monai.bundle import ConfigParser

    folder = write_folder(CASES[name][0](), tmp_path / "spleen")
    parser = ConfigParser()
    parser.read_meta(folder / "configs/metadata.json")
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        parser.read_config(folder / "configs/train.json")
        parser.parse()  # as MONAI's workflow does, so that copies are resolved twice
        found = parser.get_parsed_content("x")
        # A process is waited for, a class is called.
        getattr(found, "wait", lambda: None)()
        for reader in getattr(found, "readers", []):
            getattr(reader, "wait", lambda: None)()
    assert Path(CANARY).exists()


@pytest.mark.parametrize("name", sorted(LOGS))
def test_the_payloads_for_logging_are_real(name: str, here: Path) -> None:
    Path("logging.conf").write_bytes(LOGS[name])
    code = "from logging.config import fileConfig; fileConfig('logging.conf')"
    subprocess.run([sys.executable, "-I", "-c", code], check=False, capture_output=True)
    assert Path(CANARY).exists()


WATCHED = """
import json, sys, tempfile
from pathlib import Path
from pipeline.bundle.audit import audit_bundle
from tests.bundle.audit.bundles import write_folder, write_zip
from tests.bundle.audit.hostile import CASES

watched, seen = False, []
# What Python reports when it runs code, imports, loads a pickle or a library, starts a process, connects, or removes.
NEVER = ("exec", "import", "pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen",
         "code.__new__", "socket.connect", "socket.getaddrinfo", "urllib.Request", "ctypes.dlopen", "marshal.loads",
         "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree", "builtins.breakpoint",
         "tempfile.mkdtemp")

def watch(event, arguments):
    if not watched:
        return
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event in NEVER or (written and not isinstance(arguments[0], int)):
        seen.append(f"{name}: {event} {arguments!r}"[:200])

sys.addaudithook(watch)
with tempfile.TemporaryDirectory() as folder:
    for round in (0, 1):  # the first one loads the modules of the audit itself
        for number, (name, (make, code)) in enumerate(CASES.items()):
            if "_megabytes" in name or "too_large" in name:
                continue
            files = make()
            path = Path(folder) / f"{round}_{number}"
            ways = [write_folder(files, path), write_zip(files, path.with_suffix(".zip"))]
            watched = bool(round)
            for way in ways:
                audit_bundle(way)
            watched = False
found = list(seen)
watched = True
exec("pass")  # the watch itself works
watched = False
print(json.dumps([len(CASES), found, len(seen)]))
"""


def test_python_itself_sees_no_code_run(here: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", WATCHED], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    number, found, seen = json.loads(done.stdout)
    assert number >= 150
    assert found == []
    assert seen == 1
