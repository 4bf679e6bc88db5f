"""Bundles as a client gets them: a copy alone in a folder outside of the repository."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from tests.bundles.conftest import ROOT


def copy_bundle(name: str, folder: Path) -> Path:
    """Copy a bundle, with untrained weights if it has none."""
    target = folder / name
    shutil.copytree(ROOT / "bundles" / name, target)
    _add_weights(target)
    return target


def copy_small(name: str, folder: Path) -> Path:
    """Copy a bundle with the small network and the few epochs of its ``phantom.json``.

    Clients read ``train.json`` and ``inference.json`` alone, so the override is written into them.
    """
    target = folder / name
    shutil.copytree(ROOT / "bundles" / name, target, ignore=shutil.ignore_patterns("*.pt"))
    for file in ("train.json", "inference.json"):
        _merge(target / "configs" / file, target / "configs/phantom.json")
    _add_weights(target)
    return target


def _merge(config: Path, override: Path) -> None:
    known = json.loads(config.read_text(encoding="utf-8"))
    parser = ConfigParser(known)
    for key, value in json.loads(override.read_text(encoding="utf-8")).items():
        if key != "_desc_" and key.split("#")[0] in known:
            parser[key] = value
    config.write_text(json.dumps(parser.get(), indent=4), encoding="utf-8")


def _add_weights(bundle: Path) -> None:
    file = bundle / "models/model.pt"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        torch.manual_seed(0)
        torch.save(build_network(bundle).state_dict(), file)


def build_network(bundle: Path) -> torch.nn.Module:
    """Build a bundle's network as inference does."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/inference.json"))
    network: torch.nn.Module = parser.get_parsed_content("network_def")
    return network.eval()


def load_weights(file: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(file, weights_only=True)
    return weights


def same_weights(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two state dicts hold the same numbers."""
    return set(one) == set(other) and all(torch.equal(torch.as_tensor(one[key]), other[key]) for key in one)


def digest(folder: Path) -> dict[str, str]:
    """Return the checksum of every file of a folder, and its folders."""
    files = {path: path.is_file() for path in sorted(folder.rglob("*"))}
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if is_file else "folder"
        for path, is_file in files.items()
    }
