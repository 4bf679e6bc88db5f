from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_channels
from pipeline.issues import InputError

CONSTANTS = {"subtrahend": [1.0, 2.0, 3.0], "divisor": [1.0, 1.0, 1.0]}


def config(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"train": {"deterministic_transforms": list(steps)}, **more}


def steps(draft: Draft) -> list[dict[str, Any]]:
    return draft.train["train"]["deterministic_transforms"]


def test_the_network_is_changed_wherever_it_is_named(make_draft: Callable[..., Draft]) -> None:
    small = {"network_def#in_channels": 3, "network_def#features": [8]}
    inference = {"network_def": {"_target_": "BasicUNet", "in_channels": 3}}
    draft = make_draft(config(), **{"phantom.json": small, "inference.json": inference})
    edit_channels(draft)
    assert draft.train["network_def"]["in_channels"] == 1
    assert draft.configs.files["inference.json"]["network_def"]["in_channels"] == 1
    assert draft.configs.files["phantom.json"] == {"network_def#in_channels": 1, "network_def#features": [8]}
    assert "channels: 3 -> 1 (intensity)" in draft.changes


def test_neighbouring_slices_multiply_the_channels(make_draft: Callable[..., Draft]) -> None:
    neighbours = {"_target_": "pipeline.transforms.NeighbourSlicesToChannelsd", "keys": "image", "before": 2}
    figures = [{"_target_": "SegmentationFigures", "channels": [9]}, {"_target_": "PredictionGallery"}]
    draft = make_draft(config(neighbours, handlers=figures), shape="stacks")
    draft.train["network_def"]["in_channels"] = 12
    edit_channels(draft)
    assert draft.train["network_def"]["in_channels"] == 4
    assert [item["channels"] for item in draft.train["handlers"]] == [[2], [2]]


def test_colour_is_shown_in_colour(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    neighbours = {"_target_": "pipeline.transforms.NeighbourSlicesToChannelsd", "keys": "image"}
    draft = make_draft(config(neighbours, handlers=[{"_target_": "SegmentationFigures"}]), colour, shape="stacks")
    draft.train["network_def"]["in_channels"] = 9
    edit_channels(draft)
    assert draft.train["handlers"][0]["channels"] == [3, 4, 5]
    plain = make_draft(config(handlers=[{"_target_": "SegmentationFigures", "channels": [1]}]), colour)
    edit_channels(plain)
    assert plain.train["handlers"] == [{"_target_": "SegmentationFigures"}]


def test_a_knob_says_which_channels_are_shown(make_draft: Callable[..., Draft]) -> None:
    figures = {"_target_": "SegmentationFigures", "channels": "@figure_channels"}
    draft = make_draft(config(handlers=[figures], figure_channels=[1]))
    edit_channels(draft)
    assert draft.train["figure_channels"] == [0]
    assert draft.train["handlers"] == [figures]


def test_channels_that_cannot_be_counted(make_draft: Callable[..., Draft]) -> None:
    draft = make_draft(config({"_target_": "NeighbourSlicesToChannelsd", "keys": "image"}))
    draft.train["network_def"]["in_channels"] = 4
    with pytest.raises(InputError, match="in_channels 4 is no multiple of 3 slices"):
        edit_channels(draft)
    del draft.train["network_def"]["in_channels"]
    with pytest.raises(InputError, match="network_def has no in_channels, so it cannot be changed"):
        edit_channels(draft)


def test_inference_expects_the_channels(make_draft: Callable[..., Draft]) -> None:
    finders = [{"_target_": f"pipeline.datasets.{name}"} for name in ("find_inputs", "find_images", "find_volumes")]
    draft = make_draft(config(), **{"inference.json": {"finders": finders}})
    edit_channels(draft)
    assert [item["channels"] for item in finders] == [1, 1, 1]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("number", [1, 3])
def test_constants_hold_only_for_their_own_channels(
    make_draft: Callable[..., Draft], grey: UserDataset, colour: UserDataset, dtype: str, number: int
) -> None:
    dataset = colour if number == 3 else grey
    cases = tuple(replace(case, facts={"dtype": dtype}) for case in dataset.manifest.cases)
    dataset = replace(dataset, manifest=replace(dataset.manifest, cases=cases))
    step = {"_target_": "NormalizeIntensityd", "keys": "image", **CONSTANTS, "channel_wise": True}
    draft = make_draft(config(step), dataset)
    edit_channels(draft)
    if (dtype, number) == ("uint8", 3):
        assert steps(draft) == [step]
    else:
        assert steps(draft) == [{"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}]


def test_the_range_of_8_bits_holds_only_for_8_bits(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    scale = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 255, "b_min": -1.0, "b_max": 1.0}
    draft = make_draft(config(scale), grey)
    edit_channels(draft)
    assert steps(draft) == [scale]
    cases = tuple(replace(case, facts={"dtype": "int16"}) for case in grey.manifest.cases)
    draft = make_draft(config(scale), replace(grey, manifest=replace(grey.manifest, cases=cases)))
    edit_channels(draft)
    (step,) = steps(draft)
    assert step["_target_"] == "ScaleIntensityRangePercentilesd"
    assert (step["b_min"], step["b_max"], step["clip"]) == (-1.0, 1.0, True)
    assert "a_max" not in step


def test_copies_of_channels_are_dropped(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    copies = {"_target_": "pipeline.transforms.RandCopyChanneld", "keys": "image", "source": 1, "targets": [0, 2]}
    flip = {"_target_": "RandFlipd", "keys": "image"}
    override = {"train#deterministic_transforms#1#prob": 0.1}
    draft = make_draft(config(copies, flip), colour, **{"other.json": override})
    edit_channels(draft)
    assert steps(draft) == [flip]
    assert draft.configs.files["other.json"] == {"train#deterministic_transforms#0#prob": 0.1}


def test_copies_of_the_same_channels_are_kept(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    copies = {"_target_": "pipeline.transforms.RandCopyChanneld", "keys": "image", "source": 1, "targets": [0, 2]}
    neighbours = {"_target_": "pipeline.transforms.NeighbourSlicesToChannelsd", "keys": "image"}
    dataset = replace(colour, channels=("a", "b", "c"))
    for names, kept in (("abc", True), ("abd", False)):
        draft = make_draft(config(copies, neighbours), dataset, shape="stacks")
        draft.train["network_def"]["in_channels"] = 9
        places = [f"{name}, {place}" for place in ("slice above", "slice", "slice below") for name in names]
        image = {"channel_def": {str(index): text for index, text in enumerate(places)}}
        draft.metadata["network_data_format"]["inputs"] = {"image": image}
        edit_channels(draft)
        assert (copies in steps(draft)) == kept


def test_alpha_channels(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    load = {"_target_": "LoadImaged", "keys": ["image", "label"]}
    drop = {"_target_": "pipeline.transforms.DropAlphad", "keys": "image"}
    draft = make_draft(config(load, drop))
    edit_channels(draft)
    assert steps(draft)[1]["channels"] == 1
    two = replace(grey, channels=("a", "b"))
    draft = make_draft(config(load, drop), two)
    edit_channels(draft)
    assert steps(draft) == [load]
    draft = make_draft(config({"_target_": "pipeline.transforms.LoadSliceStackd", "keys": ["image", "label"]}), grey)
    edit_channels(draft)
    assert steps(draft)[1] == {"_target_": "pipeline.transforms.DropAlphad", "keys": "image", "channels": 1}
