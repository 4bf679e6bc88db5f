from __future__ import annotations

from typing import Any

import pytest
from monai.bundle import ConfigParser

from pipeline.bundle.configs import find_blocks, find_references, list_texts, make_inert


@pytest.mark.parametrize(
    ("text", "found"), [("@a::b", {"a#b"}), ("%a#1", {"a#1"}), ("$@x + [@y#0]", {"x", "y#0"}), ("a@b", set())]
)
def test_references(text: str, found: set[str]) -> None:
    assert find_references(text) == found


def test_texts_have_their_ids() -> None:
    assert list(list_texts({"a": ["x", {"b": "y"}], "c": 1})) == [("a#0", "x"), ("a#1#b", "y")]


def test_blocks_are_found_by_class() -> None:
    inner = {"_target_": "Flip"}
    config = {"steps": [{"_target_": "a.b.EachLabeld", "transform": inner}], "size": 3}
    assert list(find_blocks(config, "Flip")) == [inner]
    assert [block["_target_"] for block in find_blocks(config, "Flip", "EachLabeld")] == ["a.b.EachLabeld", "Flip"]


@pytest.mark.parametrize("text", ["$1 + 1", "@secret", "%secret", "%other.json::x"])
@pytest.mark.parametrize("prefix", [" ", "./", "*"])
def test_monai_takes_inert_texts_as_they_are(text: str, prefix: str) -> None:
    data: dict[str, Any] = {"names": [text], "inner": {"text": text}}
    parser = ConfigParser({"secret": 7, "data": make_inert(data, prefix)})
    assert parser.get_parsed_content("data#names") == [prefix + text]
    assert parser.get_parsed_content("data#inner#text") == prefix + text
    assert make_inert("plain $1", prefix) == "plain $1"
    assert make_inert({text: (1, None)}) == {f" {text}": [1, None]}
