from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_paths
from pipeline.bundle.edits.paths import locate_manifest

TRAIN = {
    "manifest": "$@bundle_root + '/../../x.json'",
    "dataset_dir": "data/old",
    "fold": 0,
    "output_dir": "$@bundle_root + '/output'",
}
INFERENCE = {"bundle_root": "bundles/old", "input": "data/old", "dataset_dir": "@input"}


@pytest.fixture
def make(make_draft: Callable[..., Draft], grey: UserDataset) -> Callable[..., Draft]:
    def make(path: Path, folder: Path | None, name: str = "") -> Draft:
        remark = {"_desc_": "as bundles/old/configs says, not bundles/old_two or x/bundles/old"}
        files = {"inference.json": dict(INFERENCE), "other.json": {**remark, "dataset_dir": "phantom"}}
        draft = make_draft(TRAIN, replace(grey, path=path, folder=folder), **files)
        draft.folder = draft.folder.with_name(name or draft.name)
        draft.name = draft.folder.name
        return draft

    return make


def test_paths_inside_of_the_folder_that_holds_the_bundles(make: Callable[..., Draft], tmp_path: Path) -> None:
    draft = make(tmp_path / "lists/my.json", tmp_path / "data/mine")
    edit_paths(draft)
    train, inference = draft.train, draft.configs.files["inference.json"]
    assert train["bundle_root"] == inference["bundle_root"] == "bundles/fresh"
    assert train["manifest"] == "$@bundle_root + '/../../lists/my.json'"
    assert train["dataset_dir"] == "data/mine"
    assert train["output_dir"] == TRAIN["output_dir"]
    assert inference["input"] == "data/mine/images"
    assert inference["dataset_dir"] == "@input"
    other = draft.configs.files["other.json"]
    assert other["dataset_dir"] == "data/mine"
    assert other["_desc_"] == "as bundles/fresh/configs says, not bundles/old_two or x/bundles/old"


def test_paths_elsewhere_are_absolute(make: Callable[..., Draft]) -> None:
    draft = make(Path("/lists/my.json"), Path("/data"))
    edit_paths(draft)
    assert draft.train["manifest"] == "/lists/my.json"
    assert draft.train["dataset_dir"] == "/data"
    assert draft.configs.files["inference.json"]["input"] == "/data/images"


def test_a_folder_that_was_not_told(make: Callable[..., Draft], tmp_path: Path) -> None:
    draft = make(tmp_path / "my.json", None)
    edit_paths(draft)
    assert draft.train["dataset_dir"] == "data/fresh"


def test_names_that_no_expression_can_hold(make: Callable[..., Draft], tmp_path: Path) -> None:
    for name in ("it's.json", "ä.json", "a@b.json", "long" * 20 + ".json"):
        draft = make(tmp_path / name, None)
        edit_paths(draft)
        assert draft.train["manifest"] == str(tmp_path / name)


def test_manifests_belong_to_the_others_where_there_are_some(make: Callable[..., Draft], tmp_path: Path) -> None:
    (tmp_path / "data_manifests").mkdir()
    draft = make(tmp_path / "my.json", None, "a" * 30)
    assert locate_manifest(draft) == tmp_path / f"data_manifests/{'a' * 30}.json"
    edit_paths(draft)
    assert draft.train["manifest"] == f"$@bundle_root + '/../../data_manifests/{'a' * 30}.json'"
    draft = make(tmp_path / "data_manifests/there.json", None)
    assert locate_manifest(draft) == tmp_path / "data_manifests/there.json"
