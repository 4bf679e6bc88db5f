"""The configs of the templates: they equal those of the suite's own bundles, and fit what a dataset is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle.config_files import list_configs
from pipeline.bundle.configs import Config, find_blocks
from pipeline.bundle.dataset import UserDataset, read_dataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.recipe import read_source, read_template
from pipeline.bundle.render import name_labels, render_configs
from pipeline.bundle.texts import make_metadata
from pipeline.datasets import find_images
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.issues import InputError
from tests.bundle.conftest import (
    BUNDLES,
    ROOT,
    build,
    change_cases,
    join_stacks,
    make_draft,
    read_json,
    write_pictures,
)

OWN = {"stacks": "lgg_attunet", "volumes": "hippocampus_segresnet", "objects": "u373_unet", "pictures": "isic_unet"}
# All that may differ between a template's configs and those of the suite's own bundle: paths, the choice of a split,
# and facts about that bundle's data.
DATA_SPECIFIC = {
    *("bundle_root", "dataset_dir", "manifest", "fold", "input"),
    # What is known about the shape and size of these objects.
    *("skip_largest_component", "min_size"),
    # The FLAIR channel; FLAIR in the place of a missing channel.
    *("figure_channels", "pipeline.transforms.RandCopyChanneld"),
}
# The template for numbered objects says "object" and "image" for a cell and a frame of a film.
WORDS = {"tiles_per_frame": "tiles_per_image", "_cells": "_objects"}


def read_suite_dataset(template: str, request: pytest.FixtureRequest) -> UserDataset:
    if template == "pictures":  # the images are not free to share, so a manifest of the same kind stands in
        grey: UserDataset = request.getfixturevalue("grey")
        photographs = change_cases(grey, copies=50, facts={"dtype": "uint8"})
        return replace(photographs, channels=("red", "green", "blue"))
    path = ROOT / "data_manifests" / {"stacks": "lgg", "volumes": "hippocampus", "objects": "u373_time"}[template]
    path = path.with_suffix(".json")
    if template != "objects":
        return read_dataset(path)
    manifest = read_manifest(path)
    time = manifest.named_splits["time"]
    cases = [case for case in manifest.cases if case.case_id not in time["exclude"]]
    cases = [replace(case, split="val") if case.case_id in time["val"] else case for case in cases]
    chosen = replace(manifest, cases=tuple(cases))
    return UserDataset(chosen, path, None, manifest.channels, tuple(manifest.labels.values()))


def drop_data_specific(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: drop_data_specific(item[key]) for key in item if key not in {*DATA_SPECIFIC, "_desc_"}}
    if isinstance(item, list):
        return [drop_data_specific(value) for value in item if not (set(map(str, read_values(value))) & DATA_SPECIFIC)]
    return item


def read_values(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        yield item.get("_target_")


@pytest.mark.parametrize("start", ["template", "bundle"])
@pytest.mark.parametrize("template", OWN)
def test_a_template_gives_the_bundle_of_the_suite(template: str, start: str, request: pytest.FixtureRequest) -> None:
    bundle = BUNDLES / OWN[template]
    recipe = read_template(template) if start == "template" else read_source(bundle)
    assert recipe.template == template
    configs = render_configs(make_draft(read_suite_dataset(template, request), recipe, bundle))
    own = {path.name: path.read_text(encoding="utf-8") for path in list_configs(bundle / "configs")}
    assert set(own) - {"metadata.json", "origin.json", "postprocessing.json"} == set(configs)
    for name, config in configs.items():
        text = own[name]
        for old, new in WORDS.items():
            text = text.replace(old, new) if template == "objects" else text
        assert drop_data_specific(config) == drop_data_specific(json.loads(text)), name


def render(dataset: UserDataset, template: str) -> dict[str, Config]:
    return render_configs(make_draft(dataset, template))


def read_target(step: Config) -> str:
    return str(step["_target_"]).rpartition(".")[2]


def test_every_text_for_people_is_in_the_files_of_the_suite_too(grey: UserDataset) -> None:
    """Descriptions that do not speak of the data are the suite's own."""
    suite = "".join((BUNDLES / "isic_unet/configs" / f"{name}.json").read_text() for name in ("train", "refine"))
    own = {block["_desc_"] for block in find_blocks(render(grey, "pictures")["refine.json"], "DenseCRFd")}
    assert own
    assert all(text in suite for text in own)


# ---- channels --------------------------------------------------------------------------------------------------------


def test_channels_and_neighbouring_slices(grey: UserDataset, colour: UserDataset) -> None:
    for dataset, inputs, shown in ((grey, 3, [1]), (colour, 9, [3, 4, 5])):
        configs = render(dataset, "stacks")
        assert configs["train.json"]["network_def"]["in_channels"] == inputs
        assert configs["inference.json"]["network_def"]["in_channels"] == inputs
        assert configs["train.json"]["figure_channels"] == shown
        assert configs["inference.json"]["dataset"]["data"]["channels"] == len(dataset.channels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_constants_only_for_colours_of_8_bits(grey: UserDataset, colour: UserDataset, dtype: str) -> None:
    for dataset in (grey, colour):
        configs = render(change_cases(dataset, facts={"dtype": dtype}), "pictures")
        for name in ("train.json", "inference.json"):
            (step,) = find_blocks(configs[name], "NormalizeIntensityd")
            assert step["channel_wise"] is True
            constant = dtype == "uint8" and dataset is colour
            assert (step.get("subtrahend") == "@image_mean") == constant
            assert ({"image_mean", "image_std"} <= configs[name].keys()) == constant
            assert constant or not {"image_mean", "image_std"} & configs[name].keys()


def test_alpha_channels(grey: UserDataset, colour: UserDataset) -> None:
    for template in ("pictures", "stacks"):
        for dataset, channels in ((grey, 1), (colour, 3)):
            configs = render(dataset, template)
            for name in ("train.json", "inference.json", "refine.json"):
                (step,) = find_blocks(configs[name], "DropAlphad")
                assert step.get("channels", 3) == channels
        two = render(replace(grey, channels=("a", "b")), template)
        assert not list(find_blocks(two, "DropAlphad"))
    assert not list(find_blocks(render(join_stacks(colour), "stacks"), "DropAlphad"))


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_one_label_has_one_output(grey: UserDataset) -> None:
    for template in ("pictures", "stacks"):
        train = render(grey, template)["train.json"]
        assert train["network_def"]["out_channels"] == 1
        assert train["threshold"] == 0.5
        assert train["loss"] == {"_target_": "DiceCELoss", "sigmoid": True, "batch": True}


@pytest.mark.parametrize("template", ["pictures", "stacks"])
def test_several_labels_have_one_output_each(colour: UserDataset, template: str) -> None:
    configs = render(colour, template)
    train, text = configs["train.json"], json.dumps(configs)
    assert train["network_def"]["out_channels"] == 3
    assert train["loss"] == {"_target_": "DiceCELoss", "softmax": True, "to_onehot_y": True, "batch": True}
    assert "threshold" not in train
    assert not re.search("sigmoid|@threshold|ThresholdSearch|CopyItemsd", text)
    assert configs["ensemble.json"]["evaluator#inferer"]["activation"] == "softmax"
    (key,) = train["validate"]["key_metric"].values()
    assert key["metric_fn"]["labels"] == [1, 2]
    assert {"dice_cyst", "dice_nodule"} <= set(train["validate"]["additional_metrics"])
    for loss in configs["losses.json"]["losses"].values():
        assert loss["to_onehot_y"] is True
    for step in find_blocks(configs["refine.json"], "FillHoles"):
        assert step == {"_target_": "FillHoles"}
    assert any(find_blocks(configs["refine.json"], "EachLabel", "EachLabeld"))


def test_crops_of_every_label(grey: UserDataset, colour: UserDataset) -> None:
    for dataset, ratios, more in ((grey, [2, 1], {}), (colour, [4, 1, 1], {"warn": False})):
        (crop,) = find_blocks(render(dataset, "stacks"), "RandCropByLabelClassesd")
        assert (crop["num_classes"], crop["ratios"]) == (len(ratios), ratios)
        assert {key: crop[key] for key in crop if key == "warn"} == more


def test_volumes_score_each_label(volumes: UserDataset) -> None:
    configs = render(volumes, "volumes")
    assert configs["train.json"]["network_def"]["out_channels"] == 2
    assert set(configs["train.json"]["validate"]["additional_metrics"]) == {"dice_organ"}
    metrics = {key.rpartition("#")[2] for key in configs["evaluate.json"] if "additional_metrics" in key}
    assert metrics == {"hd95_organ", "nsd_1mm_organ", "n_missed_organ"}
    saver, pictures = configs["evaluate.json"]["validate#handlers"][-2:]
    assert pictures == {"_target_": "pipeline.handlers.CasePicturesSaver", "output_dir": "@output_dir"}
    assert saver["metric_details"] == ["dice_*", "hd95_*", "nsd_*", "brier_*", "ece_*", "doubt"]


def test_names_of_labels_become_names_of_metrics() -> None:
    assert name_labels(("background", "Cyst", "cyst?", "Image")) == ["cyst", "cyst_2", "image_3"]


# ---- masks -----------------------------------------------------------------------------------------------------------


def test_values_of_masks(grey: UserDataset, colour: UserDataset) -> None:
    lossy = replace(grey, manifest=replace(grey.manifest, binarize=128.0))
    for dataset, meaning in (
        (grey, {"values": [0, 255]}),
        (colour, {"values": [0, 1, 2]}),
        (lossy, {"threshold": 128}),
    ):
        for template in ("pictures", "stacks"):
            (step,) = find_blocks(render(dataset, template)["train.json"], "EncodeMaskd")
            assert step == {"_target_": "pipeline.transforms.EncodeMaskd", "keys": "label", **meaning}


def test_masks_from_annotations(grey: UserDataset) -> None:
    drawn = replace(grey, manifest=replace(grey.manifest, coco={"categories": {"1": 1}}))
    configs = render(drawn, "pictures")
    steps = configs["train.json"]["train"]["deterministic_transforms"]
    assert [read_target(step) for step in steps[:4]] == [
        "LoadImaged",
        "EnsureChannelFirstd",
        "LoadCocoMaskd",
        "DropAlphad",
    ]
    assert steps[0]["keys"] == "image"
    assert not list(find_blocks(configs["inference.json"], "LoadCocoMaskd"))


def test_masks_are_written_as_the_datasets_own(grey: UserDataset, colour: UserDataset, volumes: UserDataset) -> None:
    far = replace(volumes, manifest=replace(volumes.manifest, mask_values={0: 0, 850: 1}))
    expected = {
        ("pictures", "grey"): [0, 255],
        ("pictures", "colour"): None,
        ("stacks", "grey"): None,
        ("stacks", "colour"): [0, 1, 2],
        ("volumes", "volumes"): None,
        ("volumes", "far"): [0, 850],
    }
    datasets = {"grey": grey, "colour": colour, "volumes": volumes, "far": far}
    for (template, name), values in expected.items():
        config = render(datasets[name], template)["inference.json"]
        assert config.get("label_values") == values
        assert config["save"][0].get("values") == (values and "@label_values")


def test_masks_among_the_images_are_no_input(tmp_path: Path, grey: UserDataset) -> None:
    folder = write_pictures(tmp_path / "beside", beside=True)
    dataset = read_dataset(build(folder, image="images/*.png", mask="images/*_drawn.png", mask_values="0,255"), folder)
    data = render(dataset, "pictures")["inference.json"]["dataset"]["data"]
    found = find_images(folder / "images", exclude=data["exclude"])
    assert [item["case_id"] for item in found] == [f"scan_{index}" for index in range(6)]
    assert "exclude" not in render(grey, "pictures")["inference.json"]["dataset"]["data"]


# ---- post-processing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_crf_compares_intensities_of_8_bits(grey: UserDataset, volumes: UserDataset, dtype: str) -> None:
    deep = change_cases(grey, facts={"dtype": dtype})
    for dataset, template in ((deep, "pictures"), (deep, "stacks"), (volumes, "volumes")):
        refine = render(dataset, template)["refine.json"]["refine"]
        scaled = [step for step in refine if read_target(step) == "ScaleIntensityRangePercentilesd"]
        assert bool(scaled) == (dtype == "uint16" or template == "volumes")
        for step in scaled:
            assert (step["_disabled_"], step["keys"], step["b_min"], step["b_max"]) == ("@skip_crf", "original", 0, 255)
            assert read_target(refine[refine.index(step) + 1]) == "DenseCRFd"


@pytest.mark.parametrize(
    ("name", "template"), [("grey", "pictures"), ("grey", "stacks"), ("volumes", "volumes"), ("cells", "objects")]
)
def test_everything_that_is_tuned_is_off(name: str, template: str, request: pytest.FixtureRequest) -> None:
    configs = render(request.getfixturevalue(name), template)
    knobs = {**configs["inference.json"], **configs["refine.json"]}
    assert {knobs[knob] for knob in knobs if knob.startswith("skip_")} == {True}


# ---- cases, paths ----------------------------------------------------------------------------------------------------


def test_pictures_are_stacks_of_one(grey: UserDataset) -> None:
    configs = render(change_cases(grey), "stacks")
    data = configs["inference.json"]["dataset"]["data"]
    assert data["_target_"] == "pipeline.datasets.find_images"
    stacks = render(join_stacks(grey), "stacks")
    assert stacks["inference.json"]["dataset"]["data"]["_target_"] == "pipeline.datasets.find_inputs"
    assert stacks["train.json"]["slices_per_case"] == 16


def test_small_datasets_fill_an_epoch(grey: UserDataset) -> None:
    configs = render(grey, "pictures")
    train = configs["train.json"]
    # Three training cases, batches of 16: 43 times make the 8 steps of a least epoch.
    assert train["repeats"] == 43
    assert train["train"]["dataset"]["data"]["repeat"] == "@repeats"
    assert configs["phantom.json"]["repeats"] == 1
    assert "repeat" not in train["validate"]["dataset"]["data"]
    many = render(change_cases(grey, copies=50), "pictures")
    assert "repeats" not in many["train.json"]
    assert "repeat" not in many["train.json"]["train"]["dataset"]["data"]


def test_scores_name_a_patient_only_where_one_is_known(grey: UserDataset) -> None:
    known = change_cases(grey)
    cases = tuple(replace(case, subject=case.case_id) for case in known.manifest.cases)
    for dataset, unit in ((grey, "case"), (replace(known, manifest=replace(known.manifest, cases=cases)), "patient")):
        train = render(join_stacks(dataset) if unit == "case" else dataset, "stacks")["train.json"]
        assert list(train["validate"]["key_metric"]) == [f"dice_{unit}"]
        assert f"slices_per_{unit}" in train


def make_at(tmp_path: Path, dataset: UserDataset, path: Path, folder: Path | None, name: str = "fresh") -> Draft:
    return make_draft(replace(dataset, path=path, folder=folder), "pictures", tmp_path / "bundles" / name)


def test_paths_inside_of_the_folder_that_holds_the_bundles(grey: UserDataset, tmp_path: Path) -> None:
    configs = render_configs(make_at(tmp_path, grey, tmp_path / "lists/my.json", tmp_path / "data/mine"))
    train, inference = configs["train.json"], configs["inference.json"]
    assert train["bundle_root"] == inference["bundle_root"] == "bundles/fresh"
    assert (train["output_dir"], inference["output_dir"]) == ("output/fresh", "output/fresh/predictions")
    assert train["manifest"] == "$@bundle_root + '/../../lists/my.json'"
    assert train["dataset_dir"] == "data/mine"
    assert inference["input"] == "data/mine/images"


def test_paths_elsewhere_are_absolute(grey: UserDataset, tmp_path: Path) -> None:
    draft = make_at(tmp_path, grey, Path("/lists/my.json"), Path("/data"))
    assert (draft.express_manifest(), draft.dataset_dir, draft.input) == ("/lists/my.json", "/data", "/data/images")
    assert make_at(tmp_path, grey, tmp_path / "my.json", None).dataset_dir == "data/fresh"


def test_names_that_no_expression_can_hold(grey: UserDataset, tmp_path: Path) -> None:
    for name in ("it's.json", "ä.json", "a@b.json", "long" * 20 + ".json"):
        assert make_at(tmp_path, grey, tmp_path / name, None).express_manifest() == str(tmp_path / name)


def test_manifests_belong_to_the_others_where_there_are_some(grey: UserDataset, tmp_path: Path) -> None:
    (tmp_path / "data_manifests").mkdir()
    draft = make_at(tmp_path, grey, tmp_path / "my.json", None, "a" * 30)
    assert draft.locate_manifest() == tmp_path / f"data_manifests/{'a' * 30}.json"
    assert draft.express_manifest() == f"$@bundle_root + '/../../data_manifests/{'a' * 30}.json'"
    there = make_at(tmp_path, grey, tmp_path / "data_manifests/there.json", None)
    assert there.locate_manifest() == tmp_path / "data_manifests/there.json"


# ---- an existing bundle as the start ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["isic_unetpp", "isic_transunet", "hippocampus_unetr"])
def test_a_bundle_gives_its_network_and_settings(name: str, request: pytest.FixtureRequest) -> None:
    source = read_json(BUNDLES / name / "configs/train.json")
    dataset = request.getfixturevalue("volumes" if name.startswith("hippo") else "colour")
    configs = render_configs(make_draft(dataset, read_source(BUNDLES / name)))
    train = configs["train.json"]
    labels = {"in_channels": len(dataset.channels), "out_channels": len(dataset.labels)}
    assert train["network_def"] == configs["inference.json"]["network_def"] == {**source["network_def"], **labels}
    for part in ("optimizer", "lr_scheduler", "learning_rate", "batch_size"):
        assert train[part] == source[part]
    loaders = [list(find_blocks(data["train"]["handlers"], "EncoderWeightsLoader")) for data in (train, source)]
    assert loaders[0] == loaders[1]
    own = {key: source[key] for key in source if key.startswith("encoder_")}
    assert own.items() <= train.items()
    assert list(train).index("device") > max([list(train).index(key) for key in own], default=0)
    parallel = [read_json(BUNDLES / name / "configs/multi_gpu_train.json"), configs["multi_gpu_train.json"]]
    assert parallel[0] == parallel[1]
    small = {key for key in read_json(BUNDLES / name / "configs/phantom.json") if "#" in key}
    assert small <= set(configs["phantom.json"])


def test_a_part_that_refers_to_what_no_template_has_is_refused(colour: UserDataset) -> None:
    recipe = read_source(BUNDLES / "isic_unet")
    lost = replace(recipe, optimizer={**recipe.optimizer, "weight_decay": "@nowhere"})
    with pytest.raises(InputError, match=r"cannot be made to fit: optimizer#weight_decay in train.json refers"):
        render_configs(make_draft(colour, lost))


TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


# ---- security --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["$", "@", "%"])
def test_no_name_becomes_an_expression(grey: UserDataset, tmp_path: Path, sign: str) -> None:
    evil = f"{sign}import os"
    cases = [
        replace(case, image=(f"{evil}/{case.case_id}.png",), label=(f"{evil}/{evil}{case.case_id}.png",))
        for case in grey.manifest.cases
    ]
    manifest = replace(grey.manifest, cases=tuple(cases), name=evil)
    named = replace(grey, manifest=manifest, channels=(evil,), labels=("background", evil))
    plain = render_configs(make_at(tmp_path, grey, tmp_path / "my.json", tmp_path / "data"))
    draft = make_at(tmp_path, named, tmp_path / "my.json", tmp_path / evil)
    configs = render_configs(draft)
    known = set(TEXT.findall(json.dumps(plain)))
    written = json.dumps([configs, make_metadata(draft, configs, None)])
    assert "import os" in written
    assert not [text for text in set(TEXT.findall(written)) - known if text.startswith(("$", "@", "%"))]


def test_names_of_metrics_fit_into_names_of_files() -> None:
    names = name_labels(("background", "x" * 300, "y" * 300, "x" * 301))
    assert names == ["x" * 60, "y" * 60, f"{'x' * 60}_3"]
