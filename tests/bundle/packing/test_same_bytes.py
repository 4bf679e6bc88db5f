"""The same bundle gives the same zip file: from other clones, at another time, with other modes, locale and zone."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundle.packing.untrained import copy_with_weights
from tests.bundles.conftest import NAMES, ROOT

# Python imports this by itself; the clock of the second clone is three years ahead.
_CLOCK = "import time\n_time = time.time\ntime.time = lambda: _time() + 1e8\n"
QUICK = "hippocampus_segresnet"


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two clones of this repository in folders of different names; files of the second have other times and modes."""
    first, second = tmp_path_factory.mktemp("clone") / "one", tmp_path_factory.mktemp("clone") / "a second one"
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no checkout")
    for clone, mask in ((first, "022"), (second, "077")):
        command = f'umask {mask} && git clone -q --shared "{ROOT}" "{clone}"'
        subprocess.run(command, shell=True, check=True, capture_output=True)
    for number, path in enumerate(sorted((second / "pipeline").rglob("*.py"))):
        os.utime(path, (10**9 + number, 10**9 + number))
        path.chmod(0o600)
    return first, second


def pack(clone: Path, bundle: Path, archive: Path, mask: str, **environment: str) -> str:
    """Pack with the package of a clone; returns the digest that the command prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "TZ", "PYTHON"))}
    path = os.pathsep.join([str(clone), environment.pop("clock", "")]).rstrip(os.pathsep)
    command = f'umask {mask}; exec "{sys.executable}" -m pipeline bundle pack "{bundle}" -o "{archive}"'
    settings = {**kept, "PYTHONPATH": path, **environment}
    done = subprocess.run(command, shell=True, cwd=archive.parent, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "without a reference case" not in done.stderr
    return done.stdout.split()[-1]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == QUICK else pytest.mark.slow) for name in NAMES]
)
def test_same_bytes_from_another_clone_time_zone_and_mask(name: str, clones: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx", reason="the extra pack is not installed")
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(_CLOCK)
    digests = set()
    settings: list[dict[str, str]] = [
        {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "0"},
        {"TZ": "Asia/Tokyo", "LC_ALL": "de_DE.UTF-8", "PYTHONHASHSEED": "7", "clock": str(tmp_path / "clock")},
    ]
    for clone, mask, chosen in zip(clones, ("022", "077"), settings, strict=True):
        place = tmp_path / clone.name
        place.mkdir()
        bundle = copy_with_weights(ROOT / "bundles" / name, place)
        for number, path in enumerate(sorted(bundle.rglob("*")) if mask == "077" else ()):
            os.utime(path, (10**9 + number, 10**9 + number))
            path.chmod(0o700)
        archive = place / "sent.zip"
        digest = pack(clone, bundle, archive, mask, **chosen)
        assert digest == hashlib.sha256(archive.read_bytes()).hexdigest()
        assert sorted(path.name for path in place.iterdir()) == [name, "sent.zip"], "nothing else is written"
        digests.add(digest)
        archive.unlink()
    assert len(digests) == 1
