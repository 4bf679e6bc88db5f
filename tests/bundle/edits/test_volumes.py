from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_volumes

ORIENT = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
SPACE = {"_target_": "Spacingd", "keys": "image", "pixdim": "@spacing"}
CROP = {"_target_": "RandSpatialCropd", "keys": ["image", "label"], "roi_size": "@roi_size", "random_size": False}


def edit(make_draft: Callable[..., Draft], dataset: UserDataset, *steps: dict[str, Any], **knobs: Any) -> Draft:
    draft = make_draft({"spacing": [1.0, 1.0, 1.0], "roi_size": [16, 16, 16], **knobs, "steps": list(steps)}, dataset)
    edit_volumes(draft)
    return draft


def test_the_voxel_size_follows_the_axes_of_the_body(make_draft: Callable[..., Draft], volumes: UserDataset) -> None:
    # The files' axes are anterior 1.5 mm, left 1 mm, superior 2 mm.
    assert volumes.manifest.cases[0].facts["spacing"] == [1.5, 1.0, 2.0]
    draft = edit(make_draft, volumes, ORIENT, SPACE)
    assert draft.train["spacing"] == [1.0, 1.5, 2.0]
    assert "spacing: [1.0, 1.0, 1.0] -> [1.0, 1.5, 2.0] mm, the median of the training cases" in draft.changes


def test_without_orientation_or_files_the_axes_are_the_files(
    make_draft: Callable[..., Draft], volumes: UserDataset
) -> None:
    assert edit(make_draft, volumes, SPACE).train["spacing"] == [1.5, 1.0, 2.0]
    assert edit(make_draft, replace(volumes, folder=None), ORIENT, SPACE).train["spacing"] == [1.5, 1.0, 2.0]


def test_a_voxel_size_in_place(make_draft: Callable[..., Draft], volumes: UserDataset) -> None:
    draft = edit(make_draft, volumes, ORIENT, {**SPACE, "pixdim": [1.0, 1.0, 1.0]})
    assert draft.train["steps"][1]["pixdim"] == [1.0, 1.5, 2.0]
    assert draft.train["spacing"] == [1.0, 1.0, 1.0]


def test_what_is_not_known_stays(make_draft: Callable[..., Draft], volumes: UserDataset, grey: UserDataset) -> None:
    cases = tuple(replace(case, facts={}) for case in volumes.manifest.cases)
    unknown = replace(volumes, manifest=replace(volumes.manifest, cases=cases))
    for dataset in (unknown, grey):
        draft = edit(make_draft, dataset, ORIENT, SPACE, CROP)
        assert draft.train["spacing"] == [1.0, 1.0, 1.0]
        assert draft.train["steps"][2] == CROP
        assert draft.changes == []


def test_crops_hold_labels_where_volumes_are_larger(make_draft: Callable[..., Draft], volumes: UserDataset) -> None:
    # 20 x 24 x 18 voxels of 1.5 x 1 x 2 mm are 30 x 24 x 36 mm; 16 voxels a side are 16 x 24 x 32 mm.
    draft = edit(make_draft, volumes, ORIENT, SPACE, CROP)
    assert draft.train["steps"][2] == {
        "_target_": "RandCropByPosNegLabeld",
        "keys": ["image", "label"],
        "label_key": "label",
        "spatial_size": "@roi_size",
        "pos": 1,
        "neg": 1,
        "num_samples": 1,
    }
    assert any("crops: every other one is centred on a label" in change for change in draft.changes)
    draft = edit(make_draft, volumes, ORIENT, SPACE, CROP, roi_size=[32, 24, 32])
    assert draft.train["steps"][2] == CROP
