"""The card agrees with the table of sources, and its commands can be parsed."""

import shlex

import pytest
import yaml

from pipeline.commands.cli import build_parser
from pipeline.datasets.download.sources import SOURCES

KEYS = [
    "name",
    "layout",
    "task",
    "licence",
    "source",
    "download",
    "citations",
    "labels",
    "expected",
    "build",
    "split",
    "notes",
    "checksums",
]


@pytest.fixture
def card(repository):
    return yaml.safe_load((repository / "data_manifests" / "isic2018.yaml").read_text(encoding="utf-8"))


def test_what_every_card_says(card):
    assert [key for key in KEYS if not card.get(key)] == []
    assert card["expected"] == {"train": {"cases": 2594}, "val": {"cases": 100}, "test": {"cases": 1000}}
    assert card["labels"] == {0: "background", 1: "lesion"}
    assert "not verified by us" in card["checksums"]


def test_it_agrees_with_the_table(card):
    source = SOURCES[card["name"]]
    assert (card["layout"], card["source"]) == (source.layout, source.page)
    assert card["archives"] == {archive.file: archive.sha256 for archive in source.archives}
    assert {name for names in card["folders"].values() for name in names} == {a.folder for a in source.archives}
    assert f"{sum(archive.size for archive in source.archives) / 1e9:.1f} GB" in str(card["notes"])


@pytest.mark.parametrize("key", ["download", "check"])
def test_its_commands_are_understood(card, key):
    words = shlex.split(card[key])
    assert words[:3] == ["python", "-m", "pipeline"]
    args, extras = build_parser().parse_known_args(words[3:])
    assert extras == []
    assert callable(args.run)
