from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_pictures
from pipeline.bundle.edits.pictures import fit_grid

RESIZE = {"_target_": "Resized", "keys": "image", "spatial_size": "@image_size"}
LABEL = {"_target_": "Resized", "keys": "label", "spatial_size": [9, 9]}


def edit(make_draft: Callable[..., Draft], grey: UserDataset, *shapes: list[int], **more: Any) -> Draft:
    cases = tuple(
        replace(case, facts={"shape": shapes[index % len(shapes)]}) for index, case in enumerate(grey.manifest.cases)
    )
    dataset = replace(grey, manifest=replace(grey.manifest, cases=cases))
    files = {"inference.json": {"image_size": [256, 256]}, "phantom.json": {"image_size": [64, 64]}}
    draft = make_draft({"image_size": [256, 256], "steps": [dict(RESIZE), LABEL], **more}, dataset, **files)
    draft.metadata["network_data_format"]["outputs"]["pred"]["spatial_shape"] = [256, 256]
    edit_pictures(draft)
    return draft


def test_the_grid_has_the_proportions_of_the_pictures(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    draft = edit(make_draft, grey, [128, 160], [256, 320])
    files = draft.configs.files
    assert draft.train["image_size"] == files["inference.json"]["image_size"]
    assert draft.train["image_size"] in ([128, 160], [224, 288])
    assert files["phantom.json"]["image_size"] == [64, 64]
    assert draft.metadata["network_data_format"]["outputs"]["pred"]["spatial_shape"] == draft.train["image_size"]
    assert draft.train["steps"] == [RESIZE, LABEL]
    draft = edit(make_draft, grey, [100, 200, 3], steps=[{**RESIZE, "spatial_size": [256, 256]}])
    assert draft.train["steps"][0]["spatial_size"] == [96, 192]


@pytest.mark.parametrize(
    ("shapes", "more"),
    [
        ([[100, 200], [200, 100]], {}),
        ([[600, 600]], {}),
        ([[128, 160]], {"network_def": {"_target_": "X", "out_channels": 1, "img_size": [256, 256]}}),
        ([None], {}),
    ],
)
def test_the_grid_of_the_source_is_kept(
    make_draft: Callable[..., Draft], grey: UserDataset, shapes: list[Any], more: dict[str, Any]
) -> None:
    draft = edit(make_draft, grey, *shapes, **more)
    assert draft.train["image_size"] == [256, 256]
    assert draft.changes == []


@pytest.mark.parametrize("rows", [30, 65, 240, 1000, 6000])
@pytest.mark.parametrize("columns", [30, 99, 512, 4000])
def test_no_grid_is_much_larger_than_the_sources(rows: int, columns: int) -> None:
    grid = fit_grid(rows, columns, [256, 256])
    assert all(side % 32 == 0 and side >= 64 for side in grid)
    # Rounding to the next 32 may add 16 to each side.
    if 1 / 3 < rows / columns < 3:
        assert grid[0] * grid[1] <= (256 * 256) * 1.2
