"""What the README and the guides promise beyond their blocks of commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from tests.bundles.conftest import BUNDLES, ROOT, read_json
from tests.docs.commands import read_value
from tests.docs.markdown import list_rows, read_text

TEXT = read_text("README.md")
GUIDE = "docs/how-to/change-the-experiment.md"
LONGEST = 150


def list_overrides() -> list[str]:
    rows = list_rows(read_text(GUIDE), "change")
    return [part for row in rows for part in re.findall(r"`(--[^`]+)`", row[1])]


@pytest.mark.parametrize("override", list_overrides())
def test_overrides_change_an_id_that_exists(override: str) -> None:
    config = ConfigParser(read_json(ROOT / "bundles/lgg_attunet/configs/train.json"))
    words = shlex.split(override)
    pairs = {key.removeprefix("--"): read_value(value) for key, value in zip(words[::2], words[1::2], strict=True)}
    for key in pairs:
        parent = key.rsplit("#", 1)[0]
        assert key in config or parent in config, key
    config.update(pairs)
    for part in (
        "network_def",
        "loss",
        "optimizer",
        "train#preprocessing",
        "validate#postprocessing",
        "validate#inferer",
    ):
        assert config.get_parsed_content(part) is not None


def test_there_are_overrides_to_check() -> None:
    assert len(list_overrides()) >= 8


def test_the_flip_is_the_one_that_is_switched_off() -> None:
    transforms = read_json(ROOT / "bundles/lgg_attunet/configs/train.json")["train"]["augmentation"]
    assert transforms[10]["_target_"] == "RandFlipd"


def test_readme_is_short() -> None:
    assert len(TEXT.splitlines()) <= LONGEST


@pytest.mark.parametrize("bundle", BUNDLES, ids=[path.name for path in BUNDLES])
def test_the_table_of_bundles_says_what_their_metadata_say(bundle: Path) -> None:
    (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{bundle.name}` |"))
    _, _, _, network, parameters, score, weights, download, card, _ = (cell.strip() for cell in row.split("|"))
    metadata = read_json(bundle / "configs/metadata.json")
    definition = read_json(bundle / "configs/train.json")["network_def"]
    assert definition["_target_"].split(".")[-1] in network
    assert parameters == f"{metadata['network_parameters'] / 1e6:.1f} M"
    assert score == metadata.get("validation_score", "not measured")
    assert weights == ("yes" if (bundle / "models/model.pt").is_file() else "no")
    assert download
    assert card == f"[card](bundles/{bundle.name}/docs/README.md)"
