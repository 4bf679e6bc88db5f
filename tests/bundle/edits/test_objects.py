from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_objects
from pipeline.issues import InputError

LABEL = {"_target_": "pipeline.transforms.LabelInstancesd", "keys": "pred", "min_size": "@min_size"}
TILES = {"_target_": "OverlapTileInferer", "input_size": "@input_size", "output_size": "@output_size"}
KNOBS = {"min_size": 100, "input_size": [572, 572], "output_size": [388, 388]}


def edit(make_draft: Callable[..., Draft], grey: UserDataset, side: int, blocks: list[Any], **files: Any) -> Draft:
    cases = tuple(replace(case, facts={"shape": [side, side + 200]}) for case in grey.manifest.cases)
    objects = replace(grey, manifest=replace(grey.manifest, cases=cases, mask_type="instance"))
    draft = make_draft({**KNOBS, "blocks": blocks}, objects, **files)
    edit_objects(draft)
    return draft


def test_objects_of_every_size_are_kept(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    files = {"phantom.json": {"min_size": 10}}
    draft = edit(make_draft, grey, 600, [LABEL, {**LABEL, "min_size": 5}, TILES], **files)
    assert draft.train["min_size"] == files["phantom.json"]["min_size"] == 0
    assert "min_size" not in draft.train["blocks"][1]
    assert (draft.train["input_size"], draft.train["output_size"]) == ([572, 572], [388, 388])


def test_tiles_fit_small_images(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    small = {"input_size": [204, 204], "output_size": [20, 20]}
    draft = edit(make_draft, grey, 192, [TILES], **{"phantom.json": small})
    # 388 - 13 * 16 = 180 pixels, the first that are no more than 192.
    assert (draft.train["input_size"], draft.train["output_size"]) == ([364, 364], [180, 180])
    assert small == {"input_size": [204, 204], "output_size": [20, 20]}
    plain = {"_target_": "OverlapTileInferer", "input_size": 572, "output_size": 388}
    draft = edit(make_draft, grey, 387, [plain])
    assert draft.train["blocks"][0] == {**plain, "input_size": [556, 556], "output_size": [372, 372]}


def test_images_that_no_tile_fits(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    with pytest.raises(InputError, match=r"old mirrors 92 pixels at each border .* has 90 pixels a side"):
        edit(make_draft, grey, 90, [TILES])


def test_classes_are_left_alone(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    draft = make_draft({**KNOBS, "blocks": [LABEL]}, grey)
    edit_objects(draft)
    assert draft.train["min_size"] == 100
