from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_postprocessing

LOAD = {"_disabled_": "@skip_crf", "_target_": "pipeline.transforms.LoadSourced", "keys": "pred", "name": "original"}
CRF = {
    "_disabled_": "@skip_crf",
    "_target_": "pipeline.transforms.DenseCRFd",
    "_desc_": "Widths in pixels, of intensity in the file's units (0 to 255)",
    "keys": "pred",
    "image_key": "original",
}
HOLES = {"_disabled_": "@skip_fill_holes", "_target_": "FillHolesd", "keys": "pred", "connectivity": 1}
CHAIN = (LOAD, CRF, HOLES)


def chain(*steps: dict[str, Any], **knobs: Any) -> dict[str, Any]:
    knobs = {"skip_crf": True, "skip_fill_holes": True, **knobs}
    return {**knobs, "postprocessing": {"transforms": [dict(step) for step in steps or CHAIN]}}


def edit(make: Callable[..., Draft], dataset: UserDataset, config: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Edit the chain of an inference, and return its steps."""
    draft = make({}, dataset, **{"inference.json": config}, **more)
    edit_postprocessing(draft)
    steps: list[dict[str, Any]] = config["postprocessing"]["transforms"]
    return steps


def name(steps: list[dict[str, Any]]) -> list[str]:
    return [step["_target_"].rpartition(".")[2] for step in steps]


def test_holes_of_several_labels_are_filled_label_by_label(
    make_draft: Callable[..., Draft], colour: UserDataset, grey: UserDataset
) -> None:
    assert edit(make_draft, colour, chain())[-1] == {
        "_disabled_": "@skip_fill_holes",
        "_target_": "pipeline.transforms.EachLabeld",
        "keys": "pred",
        "transform": {"_target_": "FillHoles", "connectivity": 1},
    }
    assert edit(make_draft, grey, chain())[-1] == HOLES


def test_holes_of_slices_too(make_draft: Callable[..., Draft], colour: UserDataset, grey: UserDataset) -> None:
    step = {"_target_": "pipeline.transforms.EachSliced", "transform": {"_target_": "FillHoles"}, "axis": 2}
    each = {"_target_": "pipeline.transforms.EachLabel", "transform": {"_target_": "FillHoles"}}
    assert edit(make_draft, colour, chain(step)) == [{**step, "transform": each}]
    assert edit(make_draft, grey, chain(step)) == [step]


def test_objects_are_one_label(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    objects = replace(colour, manifest=replace(colour.manifest, mask_type="instance"))
    assert edit(make_draft, objects, chain())[-1] == HOLES


def test_alpha_channels_are_dropped_of_pictures(
    make_draft: Callable[..., Draft], grey: UserDataset, colour: UserDataset, volumes: UserDataset
) -> None:
    for dataset, channels in ((grey, 1), (colour, 3)):
        steps = edit(make_draft, dataset, chain(), shape="stacks")
        assert name(steps)[:3] == ["LoadSourced", "DropAlphad", "DenseCRFd"]
        drop = {"_target_": "pipeline.transforms.DropAlphad", "keys": "original", "channels": channels}
        assert steps[1] == {"_disabled_": "@skip_crf", **drop}
        again = edit(make_draft, dataset, chain(*steps), shape="stacks")
        assert name(again) == name(steps), "once"
    assert "DropAlphad" not in name(edit(make_draft, volumes, chain()))


@pytest.mark.parametrize("kind", ["sixteen bits", "volumes"])
def test_other_intensities_are_scaled(
    kind: str, make_draft: Callable[..., Draft], grey: UserDataset, volumes: UserDataset
) -> None:
    cases = tuple(replace(case, facts={**case.facts, "dtype": "uint16"}) for case in grey.manifest.cases)
    deep = replace(grey, manifest=replace(grey.manifest, cases=cases))
    dataset = deep if kind == "sixteen bits" else volumes
    steps = edit(make_draft, dataset, chain())
    scale = next(step for step in steps if step["_target_"] == "ScaleIntensityRangePercentilesd")
    crf = steps[steps.index(scale) + 1]
    assert (scale["_disabled_"], scale["keys"], scale["b_min"], scale["b_max"]) == ("@skip_crf", "original", 0, 255)
    assert crf["_desc_"] == "Widths in pixels, of intensity on the scale of the step before"
    assert name(steps)[0] == "LoadSourced"
    assert name(edit(make_draft, dataset, chain(*steps))) == name(steps), "once"


def test_eight_bits_stay_as_they_are(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    steps = edit(make_draft, grey, chain())
    assert name(steps) == ["LoadSourced", "DropAlphad", "DenseCRFd", "FillHolesd"]
    assert steps[2] == CRF


def test_what_was_tuned_on_the_source_is_switched_off(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    config = chain(skip_crf=False, skip_fill_holes="false")
    draft = make_draft({}, grey, **{"inference.json": config, "evaluate.json": {"skip_crf": False}})
    edit_postprocessing(draft)
    assert (config["skip_crf"], config["skip_fill_holes"]) == (True, True)
    assert draft.configs.files["evaluate.json"] == {"skip_crf": True}
    assert "post-processing: skip_crf true, for it was tuned on the source's data" in draft.changes
    draft = make_draft({}, grey, **{"inference.json": chain()})
    edit_postprocessing(draft)
    assert not [line for line in draft.changes if "tuned" in line]


def test_a_source_without_these_steps_stays_without(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    step = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
    assert edit(make_draft, colour, chain(step)) == [step]
