"""The README's promises that can be checked without running an experiment."""

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from tests.bundles.conftest import BUNDLES
from tests.crf.scenes import make_scene

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def list_overrides() -> list[str]:
    table = TEXT.split("## Change the experiment")[1].split("\nThe knobs")[0]
    return [part for line in table.splitlines() for part in re.findall(r"`(--[^`]+)`", line)]


def read_value(word: str) -> object:
    """Read a word as the command line of MONAI does."""
    if word in ("true", "false"):
        return word
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word


@pytest.mark.parametrize("override", list_overrides())
def test_overrides_change_an_id_that_exists(override: str) -> None:
    config = ConfigParser(json.loads((ROOT / "bundles/lgg_attunet/configs/train.json").read_text()))
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


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("bundle", BUNDLES, ids=[path.name for path in BUNDLES])
def test_the_table_of_bundles_says_what_their_metadata_say(bundle: Path) -> None:
    (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{bundle.name}` |"))
    _, _, _, network, parameters, score, weights, download, card, _ = (cell.strip() for cell in row.split("|"))
    metadata = json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8"))
    definition = json.loads((bundle / "configs/train.json").read_text(encoding="utf-8"))["network_def"]
    assert definition["_target_"].split(".")[-1] in network
    assert parameters == f"{metadata['network_parameters'] / 1e6:.1f} M"
    assert score == metadata.get("validation_score", "not measured")
    assert weights == ("yes" if (bundle / "models/model.pt").is_file() else "no")
    assert download
    assert card == f"[card](bundles/{bundle.name}/docs/README.md)"


def test_the_example_in_python_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    prob, image = make_scene((20, 24), 2)
    names: dict[str, Any] = {"prob": prob, "image": image}
    exec(code, names)
    assert names["q"].shape == prob.shape
    assert (names["q"].argmax(0) != prob.argmax(0)).any()
