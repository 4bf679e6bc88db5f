"""Copies of the suite's bundles to pack: with weights, if only untrained ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from monai.bundle import ConfigParser

from pipeline.bundle.config_files import read_config


def copy_with_weights(bundle: Path, folder: Path) -> Path:
    """Copy a bundle; untrained weights, always the same, are made if it has none."""
    copied = Path(shutil.copytree(bundle, folder / bundle.name))
    weights = copied / "models/model.pt"
    if not weights.is_file():
        weights.parent.mkdir(exist_ok=True)
        torch.manual_seed(0)
        network = ConfigParser(read_config(copied, "train.json")).get_parsed_content("network_def")
        torch.save(network.state_dict(), weights)
    return copied
