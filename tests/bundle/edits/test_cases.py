from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.bundle.dataset import UserDataset, read_dataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_cases
from pipeline.datasets import find_images
from tests.bundle.conftest import build, write_pictures

SAVE = {
    "_target_": "pipeline.transforms.SaveSliceStackd",
    "keys": "pred",
    "output_dir": "@output_dir",
    "overlay": "@overlay",
}


def stack_source() -> tuple[dict[str, Any], dict[str, Any]]:
    datalist = {"_target_": "pipeline.datasets.load_datalist", "split": "train", "repeat": "@slices_per_patient"}
    train = {
        "slices_per_patient": 16,
        "batch_size": 2,
        "train": {"data": datalist, "handlers": [{"_target_": "EarlyStop", "key_metric": "dice_patient"}]},
        "validate": {"key_metric": {"dice_patient": {"_target_": "IgniteMetricHandler"}}},
    }
    inference = {"data": {"_target_": "pipeline.datasets.find_inputs"}, "postprocessing": {"transforms": [dict(SAVE)]}}
    return train, inference


def test_pictures_are_stacks_of_one(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    train, inference = stack_source()
    draft = make_draft(train, grey, shape="stacks", **{"inference.json": inference})
    edit_cases(draft)
    # Three training cases, batches of 2: 6 times make the 8 steps of a least epoch.
    assert draft.train["slices_per_case"] == 6
    assert inference["data"]["_target_"] == "pipeline.datasets.find_images"
    assert inference["postprocessing"]["transforms"] == [SAVE]


def test_small_datasets_fill_an_epoch(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    data = {split: {"_target_": "pipeline.datasets.load_datalist", "split": split} for split in ("train", "val")}
    draft = make_draft({"batch_size": 4, "data": data}, grey, **{"phantom.json": {"max_epochs": 2}})
    edit_cases(draft)
    assert draft.train["repeats"] == 11
    assert draft.train["data"]["train"]["repeat"] == "@repeats"
    assert draft.configs.files["phantom.json"] == {"max_epochs": 2, "repeats": 1}
    assert "repeat" not in draft.train["data"]["val"]
    assert "epochs: each of the 3 training cases is drawn 11 times" in draft.changes
    many = tuple(replace(case, case_id=f"{case.case_id}_{k}") for k in range(20) for case in grey.manifest.cases)
    draft = make_draft({"batch_size": 4, "data": data}, replace(grey, manifest=replace(grey.manifest, cases=many)))
    edit_cases(draft)
    assert "repeat" not in draft.train["data"]["train"]


def test_large_datasets_are_drawn_once(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    train, inference = stack_source()
    many = tuple(replace(case, case_id=f"{case.case_id}_{k}") for k in range(20) for case in grey.manifest.cases)
    dataset = replace(grey, manifest=replace(grey.manifest, cases=many))
    draft = make_draft(
        train, dataset, shape="stacks", **{"inference.json": inference, "phantom.json": {"slices_per_patient": 2}}
    )
    edit_cases(draft)
    assert draft.train["slices_per_case"] == 1
    assert draft.configs.files["phantom.json"] == {"slices_per_case": 2}
    assert "epochs: each of the 60 training cases is drawn once" in draft.changes


def test_stacks_stay_stacks(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    train, inference = stack_source()
    cases = tuple(replace(case, image=case.image * 2, subject=case.case_id) for case in grey.manifest.cases)
    stacks = replace(grey, manifest=replace(grey.manifest, cases=cases))
    draft = make_draft(train, stacks, shape="stacks", **{"inference.json": inference})
    edit_cases(draft)
    assert draft.train["slices_per_patient"] == 16
    assert draft.train["validate"]["key_metric"] == {"dice_patient": {"_target_": "IgniteMetricHandler"}}
    assert inference["postprocessing"]["transforms"] == [SAVE]


def test_scores_name_a_patient_only_where_one_is_known(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    train, _ = stack_source()
    draft = make_draft(train, grey, shape="stacks", **{"evaluate.json": {"validate#key_metric#dice_patient": 1}})
    edit_cases(draft)
    assert draft.train["validate"]["key_metric"] == {"dice_case": {"_target_": "IgniteMetricHandler"}}
    assert draft.train["train"]["handlers"][0]["key_metric"] == "dice_case"
    assert draft.configs.files["evaluate.json"] == {"validate#key_metric#dice_case": 1}


def test_all_components_are_kept(make_draft: Callable[..., Draft]) -> None:
    largest = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"}
    override = {"skip_largest_component": False}
    train = {
        "skip_largest_component": False,
        "post": [{**largest, "_disabled_": "@skip_largest_component"}, dict(largest)],
    }
    draft = make_draft(train, **{"evaluate.json": override})
    edit_cases(draft)
    assert draft.train["skip_largest_component"] is override["skip_largest_component"] is True
    assert draft.train["post"][0]["_disabled_"] == "@skip_largest_component"
    assert draft.train["post"][1]["_disabled_"] is True


def test_masks_among_the_images_are_no_input(make_draft: Callable[..., Draft], tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "beside", beside=True)
    dataset = read_dataset(build(folder, image="images/*.png", mask="images/*_drawn.png", mask_values="0,255"), folder)
    inference = {"data": {"_target_": "pipeline.datasets.find_images"}}
    draft = make_draft({}, dataset, **{"inference.json": inference})
    edit_cases(draft)
    found = find_images(folder / "images", exclude=inference["data"]["exclude"])  # type: ignore[arg-type]
    assert [item["case_id"] for item in found] == [f"scan_{index}" for index in range(6)]
    assert "inference: files named *_drawn.* are masks, not images" in draft.changes


def test_masks_that_cannot_be_told_from_images(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    cases = tuple(replace(case, label=("images/drawn/" + case.image[0][7:],)) for case in grey.manifest.cases)
    dataset = replace(grey, manifest=replace(grey.manifest, cases=cases))
    inference = {"data": {"_target_": "pipeline.datasets.find_images"}}
    draft = make_draft({}, dataset, **{"inference.json": inference})
    edit_cases(draft)
    assert "exclude" not in inference["data"]
    assert "inference: masks lie among the images and cannot be told by name; give --input a folder" in draft.changes


def test_masks_are_written_as_the_datasets_own(
    make_draft: Callable[..., Draft], grey: UserDataset, colour: UserDataset, volumes: UserDataset
) -> None:
    for dataset, values, slices in ((grey, [0, 255], None), (colour, None, [0, 1, 2]), (volumes, None, None)):
        save = {"_target_": "pipeline.transforms.SaveMaskd", "keys": "pred", "values": [0, 9]}
        stack = {"_target_": "pipeline.transforms.SaveSliceStackd", "keys": "pred", "foreground_value": 9}
        edit_cases(make_draft({}, dataset, **{"inference.json": {"post": [save, stack]}}))
        assert save.get("values") == values
        assert stack.get("values") == slices
        assert "foreground_value" not in stack
