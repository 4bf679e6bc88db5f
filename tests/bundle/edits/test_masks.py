from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_masks
from pipeline.issues import InputError

LOAD = {"_target_": "LoadImaged", "keys": ["image", "label"], "reader": "PILReader", "reverse_indexing": False}
ENCODE = {"_target_": "pipeline.transforms.EncodeMaskd", "keys": "label", "values": [0, 7]}
DRAW = {
    "_target_": "pipeline.transforms.LoadCocoMaskd",
    "keys": "label",
    "manifest": "@manifest",
    "reverse_indexing": False,
}


def edit(make_draft: Callable[..., Draft], dataset: UserDataset, *steps: dict[str, Any]) -> list[dict[str, Any]]:
    draft = make_draft({"train": {"steps": list(steps)}}, dataset)
    edit_masks(draft)
    return draft.train["train"]["steps"]


def test_values_are_encoded(make_draft: Callable[..., Draft], grey: UserDataset, colour: UserDataset) -> None:
    assert edit(make_draft, grey, LOAD, ENCODE)[1]["values"] == [0, 255]
    assert edit(make_draft, colour, LOAD, ENCODE)[1]["values"] == [0, 1, 2]


def test_other_meanings_replace_the_values(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    lossy = replace(grey, manifest=replace(grey.manifest, binarize=128.0))
    assert edit(make_draft, lossy, LOAD, ENCODE)[1] == {
        "_target_": "pipeline.transforms.EncodeMaskd",
        "keys": "label",
        "threshold": 128.0,
    }
    threshold = {**ENCODE, "threshold": 3}
    del threshold["values"]
    assert edit(make_draft, grey, LOAD, threshold)[1] == {**ENCODE, "values": [0, 255]}


def test_masks_that_were_not_encoded_are(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    assert edit(make_draft, grey, LOAD) == [LOAD, {**ENCODE, "values": [0, 255]}]


def test_files_instead_of_annotations(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    steps = edit(make_draft, grey, {**LOAD, "keys": "image"}, DRAW)
    assert steps == [{**LOAD, "keys": "image"}, {**LOAD, "keys": "label"}, {**ENCODE, "values": [0, 255]}]


def test_annotations_instead_of_files(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    drawn = replace(grey, manifest=replace(grey.manifest, coco={"categories": {"1": 1}}))
    assert edit(make_draft, drawn, LOAD, ENCODE) == [{**LOAD, "keys": "image"}, DRAW]
    assert edit(make_draft, drawn, {**LOAD, "keys": "image"}, DRAW) == [{**LOAD, "keys": "image"}, DRAW]


def test_numbered_objects_are_left_alone(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    objects = replace(grey, manifest=replace(grey.manifest, mask_type="instance"))
    assert edit(make_draft, objects, LOAD) == [LOAD]


def test_sources_that_load_no_masks(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    with pytest.raises(InputError, match="old has no transform that loads masks"):
        edit(make_draft, grey, {**LOAD, "keys": "image"})
    with pytest.raises(InputError, match="reads images in another way than masks"):
        edit(make_draft, grey, DRAW)
