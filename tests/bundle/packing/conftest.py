"""A packed bundle with weights, and the folder that it unpacks to. Shared: copy before changing it."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "bundles" / "hippocampus_segresnet"
NAME = BUNDLE.name


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack a bundle with weights."""
    pytest.importorskip("cyclonedx", reason="the extra pack is not installed")
    from pipeline.bundle.packing.assembly import pack_bundle

    return pack_bundle(BUNDLE, tmp_path_factory.mktemp("packed") / "sent.zip").archive


@pytest.fixture(scope="session")
def unpacked(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack it."""
    from pipeline.bundle.packing.unpacking import unpack_bundle

    folder = tmp_path_factory.mktemp("unpacked") / NAME
    assert unpack_bundle(packed, folder).errors == []
    return folder


@pytest.fixture
def received(unpacked: Path, tmp_path: Path) -> Path:
    """Return a copy to change."""
    return Path(shutil.copytree(unpacked, tmp_path / NAME))


def read_zip(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def rewrite_zip(source: Path, target: Path, changes: Mapping[str, bytes | None]) -> Path:
    """Copy an archive with other members; None removes one."""
    files = {**read_zip(source), **changes}
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            if content is not None:
                archive.writestr(f"{NAME}/{name}", content)
    return target


def seal(folder: Path) -> None:
    """Write the digests of what is in a folder now, as a hostile sender would."""
    sums = folder / "SHA256SUMS"
    names = [line.split("  ", 1)[1] for line in sums.read_text().splitlines()]
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    sums.write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))
