from __future__ import annotations

import pytest

from pipeline.bundle.configs import Configs, find_references


def make() -> Configs:
    steps = [{"_target_": "Loadd", "keys": ["image", "label"]}, {"_target_": "a.b.Flipd"}, {"_target_": "Cropd"}]
    train = {"imports": [], "size": 3, "train": {"steps": steps}, "chosen": "$@train#steps#2 + @train#steps#1#keys"}
    override = {"train#steps#2#_disabled_": True, "train#steps#1#prob": 0.5, "train#stepsize#2": 1, "size": 4}
    return Configs({"train.json": train, "override.json": override})


def test_blocks_are_found_by_what_they_build() -> None:
    configs = make()
    (flip,) = configs.find("Flipd")
    assert (flip.file, flip.id, flip.target) == ("train.json", "train#steps#1", "Flipd")
    assert [block.target for block in configs.find()] == ["Loadd", "Flipd", "Cropd"]
    assert configs.find("Loadd")[0].acts_on("label")
    assert not flip.acts_on("label")
    assert configs.find("Flipd", file="override.json") == []


def test_removing_a_block_renumbers_overrides_and_references() -> None:
    configs = make()
    configs.remove(configs.find("Flipd")[0])
    assert [block.target for block in configs.find()] == ["Loadd", "Cropd"]
    assert configs.files["override.json"] == {"train#steps#1#_disabled_": True, "train#stepsize#2": 1, "size": 4}
    # What refers to the block itself must not refer to another one.
    assert configs.files["train.json"]["chosen"] == "$@train#steps#1 + @train#steps#removed#keys"


def test_inserting_a_block_renumbers_overrides_and_references() -> None:
    configs = make()
    configs.insert_after(configs.find("Loadd")[0], {"_target_": "Encoded"})
    configs.insert_before(configs.find("Loadd")[0], {"_target_": "First"})
    assert [block.target for block in configs.find()] == ["First", "Loadd", "Encoded", "Flipd", "Cropd"]
    assert list(configs.files["override.json"])[:2] == ["train#steps#4#_disabled_", "train#steps#3#prob"]
    assert configs.files["train.json"]["chosen"] == "$@train#steps#4 + @train#steps#3#keys"


def test_blocks_outside_of_lists_cannot_be_removed() -> None:
    configs = Configs({"train.json": {"network_def": {"_target_": "Net"}}})
    with pytest.raises(ValueError, match="network_def does not lie in a list"):
        configs.remove(configs.find("Net")[0])


def test_knobs() -> None:
    configs = make()
    assert configs.knob_behind("@size") == "size"
    assert configs.knob_behind("@other") == configs.knob_behind(3) == configs.knob_behind("size") == ""
    assert configs.set_knob("size", 5) == ["train.json", "override.json"]
    assert configs.files["override.json"]["size"] == 5
    configs.drop_knob("size")
    assert all("size" not in data for data in configs.files.values())


def test_blocks_stay_the_config_when_texts_change() -> None:
    configs = make()
    (flip,) = configs.find("Flipd")
    configs.replace_texts(lambda text: text.replace("steps", "list"))
    flip.item["prob"] = 0.1
    assert configs.files["train.json"]["train"]["list"][1] == {"_target_": "a.b.Flipd", "prob": 0.1}


@pytest.mark.parametrize(
    ("text", "found"), [("@a::b", {"a#b"}), ("%a#1", {"a#1"}), ("$@x + [@y#0]", {"x", "y#0"}), ("a@b", set())]
)
def test_references(text: str, found: set[str]) -> None:
    assert find_references(text) == found
