"""Post-processing: the same in evaluation and inference, and every step of it runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, run
from monai.data.utils import decollate_batch, list_data_collate
from monai.transforms import Compose, CopyItemsd

from pipeline.datasets import load_datalist
from pipeline.datasets.digests import compute_sha256
from pipeline.reports.run_summary import read_scores
from tests.bundles.conftest import read_json, write_phantom
from tests.bundles.expressions import find_references, list_texts
from tests.bundles.running import EXACT, Trained, configs, infer, load_prediction, load_truth, read_refinement
from tests.cached_items import Watch


def list_chain(bundle: Path, name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """List the steps to probabilities and those after them, without what is done to labels or for ThresholdSearch."""
    config = read_json(bundle / "configs" / name)
    before = [step for step in config["to_probabilities"] if step["keys"] != "label"]
    for step in before:
        step.pop("_desc_", None)  # evaluate.json is short
    for step in before:
        if step["_target_"] == "Invertd":
            assert step.pop("transform") == {"evaluate.json": "@validate#preprocessing"}.get(name, "@preprocessing")
    return before, drop_copies(config["refine"])


def drop_copies(steps: list[dict[str, Any]], *more: str) -> list[dict[str, Any]]:
    return [step for step in steps if step["_target_"] not in ("CopyItemsd", *more)]


def drop_switches(steps: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """List the steps that settings leave on, without their switches."""
    on = [step for step in steps if not settings.get(step.get("_disabled_", "").removeprefix("@"), False)]
    return [{key: value for key, value in step.items() if key != "_disabled_"} for step in on]


def name_steps(steps: list[dict[str, Any]]) -> list[str]:
    return [step["_target_"].rpartition(".")[2] for step in steps]


def test_evaluation_and_inference_process_predictions_alike(bundle: Path) -> None:
    train, inference = (read_json(bundle / "configs" / name) for name in ("train.json", "inference.json"))
    before, refine = list_chain(bundle, "inference.json")
    assert list_chain(bundle, "evaluate.json") == (before, refine)
    assert inference["postprocessing"]["transforms"] == "$@to_probabilities + @refine + @save"
    # A training validates often, and may leave its labels on the network's grid.
    lean = drop_copies(train["validate"]["postprocessing"]["transforms"], "Invertd")
    assert lean == drop_copies(before + refine, "Invertd", "pipeline.transforms.ScaleTemperatured")


def test_the_whole_chain_changes_nothing_until_a_step_is_switched_on(bundle: Path) -> None:
    train, inference = (read_json(bundle / "configs" / name) for name in ("train.json", "inference.json"))
    settings, steps = read_refinement(bundle)
    known = {**inference, **settings}
    assert drop_switches(drop_copies(steps), known) == drop_switches(inference["refine"], known)
    assert {"skip_crf", "skip_opening", "skip_closing"} <= settings.keys()
    used = {name for step in steps for _, text in list_texts(step) for name in find_references(text)}
    assert settings.keys() <= used, "every setting belongs to a step"
    both = train.keys() & inference.keys()
    assert used - both == settings.keys(), "a file that comes first may have changed the others"
    assert all(settings[name] is True for name in settings if name.startswith("skip_")), "off until there is a gain"


@pytest.mark.parametrize("name", ["lgg_attunet", "lgg_unet", "lgg_unetpp"])
def test_a_patient_keeps_the_surest_component_not_the_largest(name: str) -> None:
    for file in ("inference.json", "evaluate.json", "refine.json"):
        config = read_json(Path("bundles") / name / "configs" / file)
        names = name_steps(config["refine"])
        assert names.index("KeepSurestComponentd") < names.index("AsDiscreted"), file
        assert "KeepLargestConnectedComponentd" not in names, file


def test_postprocessing_goes_from_probabilities_to_masks(bundle: Path) -> None:
    _, steps = read_refinement(bundle)
    names = name_steps(steps)
    order = ["LoadSourced", "DenseCRFd", "AsDiscreted", "MorphologicalOpeningd", "MorphologicalClosingd"]
    places = [names.index(name) for name in order]
    assert places == sorted(places)
    if "CopyItemsd" in names:
        assert names.index("DenseCRFd") < names.index("CopyItemsd") < names.index("AsDiscreted")
    crf = [step for step in steps if step.get("_disabled_") == "@skip_crf"]
    assert steps[: len(crf)] == crf


def test_tuned_settings_are_settings_of_postprocessing(bundle: Path) -> None:
    path = bundle / "configs/postprocessing.json"
    if not path.is_file():
        pytest.skip("has not been tuned")
    tuned = read_json(path)
    description, refine = tuned.pop("_desc_"), tuned.pop("refine")
    tuned.pop("ablation", None)  # for the page of a run; overrides of older versions have none
    _, steps = read_refinement(bundle)
    chain = drop_switches(steps, {})
    places = [chain.index(step) for step in refine]
    assert places == sorted(places), "steps of the whole chain, in its order"
    assert [step for step in steps if "_disabled_" not in step] == [
        step for step in refine if "_disabled_" not in steps[chain.index(step)]
    ], "what has no switch is always on"
    used = {name for step in refine for _, text in list_texts(step) for name in find_references(text)}
    assert tuned.keys() == used
    facts = re.search(r"manifest sha256 (\w+), weights sha256 (\w+)\): \w+ ([\d.]+) raw, ([\d.]+) with", description)
    assert facts, "written by hand?"
    manifest, weights, raw, score = facts.groups()
    assert compute_sha256(bundle / "configs/manifest.json").startswith(manifest), "the manifest has changed since"
    assert compute_sha256(bundle / "models/model.pt").startswith(weights), "the weights have changed since"
    card = (bundle / "docs/README.md").read_text(encoding="utf-8")
    assert raw in card
    assert score in card


class Bright(torch.nn.Module):
    """Find what is brighter than the image on average, in speckles: a mask worth cleaning, without a training.

    Label 1 is bright, label 2 very bright. ``margin``: voxels that are not predicted at each border.
    """

    def __init__(self, out_channels: int, margin: int = 0) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.5))
        self.out_channels, self.margin = out_channels, margin

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        axes = tuple(range(1, image.ndim))
        bright = self.scale * (image - image.mean(axes, keepdim=True)).mean(1, keepdim=True)
        logits = (
            [bright] if self.out_channels == 1 else [label * (bright - label) for label in range(self.out_channels)]
        )
        inner = slice(self.margin, -self.margin or None)
        return torch.cat(logits, dim=1)[(..., *[inner] * (image.ndim - 2))]


@pytest.fixture
def found(bundle: Path, data: dict[str, str], tmp_path: Path) -> tuple[Trained, dict[str, Any]]:
    """Weights that find something, and the knobs that go with them."""
    settings = ConfigParser()
    settings.read_config(configs(bundle, "inference.json", "phantom.json"))
    margin = 0
    if "output_size" in settings:
        margin = (settings["input_size"][0] - settings["output_size"][0]) // 2
    outputs = settings["network_def"]["out_channels"]
    (tmp_path / "weights").mkdir()
    torch.save(Bright(outputs).state_dict(), tmp_path / "weights/model.pt")
    network = {"_target_": f"{__name__}.Bright", "out_channels": outputs, "margin": margin}
    return Trained(bundle, data, tmp_path / "weights"), {"network_def": network}


# Small enough for phantoms.
GENTLE = {"opening_radius": 1, "closing_radius": 1.5, "min_size": 5, "crf_spatial_width": 1, "crf_bilateral_width": 8}


def switch(bundle: Path, *, skip: bool) -> dict[str, Any]:
    """Return settings that switch every step on, or off."""
    knobs = {**read_json(bundle / "configs/inference.json"), **read_refinement(bundle)[0]}
    switches = {name: skip for name in knobs if name.startswith("skip_")}
    return {**switches, **{name: value for name, value in GENTLE.items() if name in knobs}}


def save_evaluation(trained: Trained, output_dir: Path, **knobs: Any) -> dict[str, torch.Tensor]:
    """Score the test cases, and return the masks that are scored, written as inference writes its own."""
    inference = read_json(trained.bundle / "configs/inference.json")
    (save,) = inference["save"]
    save = {**save, "output_dir": str(output_dir / "masks"), "overlay": False, "figure": False}
    if not save["_target_"].endswith("SaveImageMaskd"):
        del save["figure"]
    output_dir.mkdir()
    config = {"save": [save], "validate#postprocessing#transforms": "$@to_probabilities + @refine + @save"}
    config |= {name: inference[name] for name in ("label_values",) if name in inference}
    (output_dir / "save.json").write_text(json.dumps(config))
    files = configs(trained.bundle, "train.json", "evaluate.json", "refine.json", "phantom.json")
    run(
        config_file=[*files, str(output_dir / "save.json")],
        **{"bundle_root": str(trained.bundle), **EXACT, **trained.data, **knobs},
        checkpoint=str(trained.output_dir / "model.pt"),
        output_dir=str(output_dir),
        split="test",
    )
    # An evaluation knows the cases' ids, by which a mask of one file is named.
    return load_masks(trained, output_dir / "masks", by_id=save["_target_"].endswith("SaveImageMaskd"))


def test_labels_that_were_padded_go_back_with_the_predictions(
    found: tuple[Trained, dict[str, Any]], tmp_path: Path
) -> None:
    trained, network = found
    evaluate = read_json(trained.bundle / "configs/evaluate.json")["to_probabilities"]
    if not [step for step in evaluate if step["_target_"] == "Invertd" and step["keys"] == "label"]:
        pytest.skip("its labels keep their grid")
    (tmp_path / "odd").mkdir()
    odd = replace(trained, data=write_phantom(trained.bundle, tmp_path / "odd", size=50))
    masks = save_evaluation(odd, tmp_path / "scores", **network)
    assert {tuple(mask.shape[1:3]) for mask in masks.values()} == {(50, 50)}
    scores = read_scores(tmp_path / "scores" / f"{trained.key_metric}_raw.csv")
    assert set(scores) == set(masks)
    for case in load_datalist(**odd.data, split="test"):
        truth, mask = load_truth(odd.bundle, odd.data, case) > 0, masks[case["case_id"]] > 0
        dice = 2 * (truth & mask).sum() / (truth.sum() + mask.sum())
        assert scores[case["case_id"]] == pytest.approx(dice.item(), abs=1e-4)


def load_masks(trained: Trained, folder: Path, *, by_id: bool) -> dict[str, torch.Tensor]:
    masks = {}
    for case in load_datalist(**trained.data, split="test"):
        named = {**case, "image": [f"{case['case_id']}.nii.gz"]} if by_id else case
        masks[case["case_id"]] = load_prediction(named, folder, load_truth(trained.bundle, trained.data, case))
    return masks


@pytest.mark.one_per_family
def test_with_every_step_on_evaluation_scores_the_masks_that_inference_writes(
    found: tuple[Trained, dict[str, Any]], test_images: Path, tmp_path: Path
) -> None:
    trained, network = found
    knobs = {**network, **switch(trained.bundle, skip=False)}
    assert knobs.keys() >= {"skip_crf", "skip_opening"}
    scored = save_evaluation(trained, tmp_path / "scores", **knobs)
    infer(trained, "refine.json", input=str(test_images), output_dir=str(tmp_path / "masks"), **knobs)
    written = load_masks(trained, tmp_path / "masks", by_id=False)
    plain = {**network, **switch(trained.bundle, skip=True)}
    infer(trained, "refine.json", input=str(test_images), output_dir=str(tmp_path / "plain"), **plain)
    raw = load_masks(trained, tmp_path / "plain", by_id=False)
    assert written.keys() == scored.keys()
    for case, mask in written.items():
        assert torch.equal(mask, scored[case]), case
    assert any(mask.any() for mask in written.values()), "something is found"
    assert any(not torch.equal(mask, raw[case]) for case, mask in written.items()), "the steps do something"


def test_no_step_writes_into_the_image_the_label_the_prediction_or_the_cache(
    found: tuple[Trained, dict[str, Any]],
) -> None:
    trained, network = found
    config = ConfigParser()
    config.read_config(configs(trained.bundle, "train.json", "evaluate.json", "refine.json", "phantom.json"))
    knobs = {**network, **switch(trained.bundle, skip=False), **trained.data, "bundle_root": str(trained.bundle)}
    config.update({**knobs, "amp": False, "validate#dataset#cache_rate": 1.0, "validate#dataset#progress": False})
    dataset, inferer = config.get_parsed_content("validate#dataset"), config.get_parsed_content("validate#inferer")
    cache = Watch(dataset._cache)
    batch = list_data_collate([dataset[0]])
    with torch.no_grad():
        batch["pred"] = inferer(batch["image"], config.get_parsed_content("network"))
    (case,) = decollate_batch(batch)
    given = Watch({key: case[key].as_subclass(torch.Tensor) for key in ("image", "label", "pred")})
    chain = config.get_parsed_content("validate#postprocessing")
    result = chain(case)
    assert given.list_changes() == cache.list_changes() == []
    assert result["pred"].any(), "something is found"
    copies = [index for index, step in enumerate(chain.transforms) if isinstance(step, CopyItemsd)]
    for index in copies:  # probabilities for ThresholdSearch
        (case,) = decollate_batch(batch)
        assert torch.equal(result["prob"], Compose(chain.transforms[:index])(case)["pred"])
