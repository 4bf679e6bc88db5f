"""The checks that the Model Zoo's CI runs on a bundle (``ci/verify_bundle.py``), as far as they need no network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out

from tests.bundles.conftest import ROOT, read_json

SCHEMA = ROOT.parent / "shared/schema/meta_schema_20240725.json"
MD5 = "06954cad2cc5d3784e72077ac76f0fc8"


def test_files_that_the_zoo_asks_for(whole: Path) -> None:
    for file in ("LICENSE", "configs/metadata.json", "configs/inference.json", "models/model.pt", "docs/README.md"):
        assert (whole / file).is_file(), file
    meta = read_json(whole / "configs/metadata.json")
    assert meta["version"] in meta["changelog"]


def test_metadata_fits_the_schema(whole: Path, tmp_path: Path) -> None:
    meta = whole / "configs/metadata.json"
    target = tmp_path / SCHEMA.name
    if SCHEMA.is_file():
        target.write_bytes(SCHEMA.read_bytes())
    try:
        verify_metadata(meta_file=str(meta), filepath=str(target), hash_val=MD5, hash_type="md5")
    except OSError as error:
        pytest.skip(f"the schema could not be downloaded: {error}")
    assert hashlib.md5(target.read_bytes()).hexdigest() == MD5


def test_network_fits_its_metadata(whole: Path) -> None:
    verify_net_in_out(
        "network_def",
        meta_file=str(whole / "configs/metadata.json"),
        config_file=str(whole / "configs/inference.json"),
    )


def test_ids_that_the_zoo_asks_for(whole: Path) -> None:
    """More than MONAI's required ones; its reviewers want them."""
    train, inference = (ConfigParser(read_json(whole / "configs" / file)) for file in ("train.json", "inference.json"))
    for part in ("train", "validate"):
        for name in ("dataset", "dataset#data", "handlers", "preprocessing", "postprocessing", "inferer", "key_metric"):
            if (part, name) not in {("train", "postprocessing"), ("train", "key_metric")}:
                assert f"{part}#{name}" in train, f"{part}#{name}"
    for name in ("output_dir", "validate#evaluator"):
        assert name in train, name
    for name in ("output_dir", "preprocessing", "postprocessing", "inferer", "handlers"):
        assert name in inference, name
