"""What lies between the network and the mask: the same in evaluation and inference, and every step of it runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, run

from pipeline.datasets import load_datalist
from pipeline.datasets.digests import compute_sha256
from pipeline.reports.run_summary import read_scores
from tests.bundles.conftest import ROOT, read_json, write_phantom
from tests.bundles.expressions import find_references, list_texts
from tests.bundles.running import EXACT, POSTPROCESSING, Trained, configs, infer, load_prediction, load_truth


def list_steps(compose: dict[str, Any], *but: str) -> list[dict[str, Any]]:
    """List the steps of a postprocessing, without those that copy or save what is predicted, or are named."""
    left_out = ("CopyItemsd", "SaveMaskd", "SaveSliceStackd", *but)
    return [step for step in compose["transforms"] if not step["_target_"].endswith(left_out)]


def name_steps(compose: dict[str, Any]) -> list[str]:
    return [step["_target_"].rpartition(".")[2] for step in compose["transforms"]]


def test_evaluation_and_inference_process_predictions_alike(bundle: Path) -> None:
    train, evaluate, inference = (
        read_json(bundle / "configs" / name) for name in ("train.json", "evaluate.json", "inference.json")
    )
    # Labels that were padded with their images go back, too.
    scores = [step for step in list_steps(evaluate["validate#postprocessing"]) if step["keys"] != "label"]
    for step in scores:
        if step["_target_"] == "Invertd":
            step["transform"] = {"@validate#preprocessing": "@preprocessing"}[step["transform"]]
    assert scores == list_steps(inference["postprocessing"])
    knobs = POSTPROCESSING & inference.keys()
    assert knobs >= {"skip_crf", "skip_opening", "skip_closing"}
    settings = {**train, **evaluate}
    texts = [text for step in scores for _, text in list_texts(step)]
    used = {name for text in texts for name in find_references(text)} - {"preprocessing"}
    assert knobs <= used, "every knob belongs to a step"
    for knob in used:
        assert settings[knob] == inference[knob], knob
    for knob in (name for name in knobs if name.startswith("skip_")):
        assert inference[knob] is True, f"{knob}: off until tuning shows a gain"
    # A training validates often, and leaves out what is off anyway.
    lean = list_steps(train["validate"]["postprocessing"], "Invertd")
    off = {f"@{knob}" for knob in knobs if knob.startswith("skip_")}
    full = [step for step in scores if step["_target_"] != "Invertd" and step.get("_disabled_") not in off]
    assert lean == full


def test_postprocessing_goes_from_probabilities_to_masks(bundle: Path) -> None:
    inference = read_json(bundle / "configs/inference.json")
    steps = name_steps(inference["postprocessing"])
    order = ["LoadSourced", "DenseCRFd", "AsDiscreted", "MorphologicalOpeningd", "MorphologicalClosingd", steps[-1]]
    places = [steps.index(name) for name in order]
    assert places == sorted(places)
    evaluation = name_steps(read_json(bundle / "configs/evaluate.json")["validate#postprocessing"])
    if "CopyItemsd" in evaluation:
        assert evaluation.index("DenseCRFd") < evaluation.index("CopyItemsd") < evaluation.index("AsDiscreted")
    crf = [step for step in inference["postprocessing"]["transforms"] if step.get("_disabled_") == "@skip_crf"]
    assert crf[0]["_target_"].endswith("LoadSourced"), "tuning takes what comes before for the network's part"
    assert {step["_disabled_"] for step in crf} == {"@skip_crf"}
    assert steps.index("LoadSourced") + len(crf) == steps.index("AsDiscreted")


def test_tuned_settings_are_settings_of_postprocessing(bundle: Path) -> None:
    path = bundle / "configs/postprocessing.json"
    if not path.is_file():
        pytest.skip("has not been tuned")
    tuned = read_json(path)
    known = POSTPROCESSING | {"threshold", "skip_largest_component"}
    assert tuned.keys() - {"_desc_"} == known & read_json(bundle / "configs/inference.json").keys()
    facts = re.search(
        r"manifest sha256 (\w+), weights sha256 (\w+)\): \w+ ([\d.]+) raw, ([\d.]+) with", tuned["_desc_"]
    )
    assert facts, "written by hand?"
    manifest, weights, raw, score = facts.groups()
    named = read_json(bundle / "configs/train.json")["manifest"].rpartition("/")[2].rstrip("'")
    assert compute_sha256(ROOT / "data_manifests" / named).startswith(manifest), "the manifest has changed since"
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
    """Return knobs that switch every step on, or off."""
    knobs = read_json(bundle / "configs/inference.json")
    switches = {name: skip for name in knobs if name.startswith("skip_")}
    return {**switches, **{name: value for name, value in GENTLE.items() if name in knobs}}


def save_evaluation(trained: Trained, output_dir: Path, **knobs: Any) -> dict[str, torch.Tensor]:
    """Score the test cases, and return the masks that are scored, written as inference writes its own."""
    save = read_json(trained.bundle / "configs/inference.json")["postprocessing"]["transforms"][-1]
    save = {**save, "output_dir": str(output_dir / "masks"), "overlay": False, "figure": False}
    if not save["_target_"].endswith("SaveMaskd"):
        del save["figure"]
    output_dir.mkdir()
    (output_dir / "save.json").write_text(json.dumps({"+validate#postprocessing#transforms": [save]}))
    run(
        config_file=[
            *configs(trained.bundle, "train.json", "evaluate.json", "phantom.json"),
            str(output_dir / "save.json"),
        ],
        **{"bundle_root": str(trained.bundle), **EXACT, **trained.data, **knobs},
        checkpoint=str(trained.output_dir / "model.pt"),
        output_dir=str(output_dir),
        split="test",
    )
    # An evaluation knows the cases' ids, by which a mask of one file is named.
    return load_masks(trained, output_dir / "masks", by_id=save["_target_"].endswith("SaveMaskd"))


def test_labels_that_were_padded_go_back_with_the_predictions(
    found: tuple[Trained, dict[str, Any]], tmp_path: Path
) -> None:
    trained, network = found
    evaluate = read_json(trained.bundle / "configs/evaluate.json")["validate#postprocessing"]["transforms"]
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


def test_with_every_step_on_evaluation_scores_the_masks_that_inference_writes(
    found: tuple[Trained, dict[str, Any]], test_images: Path, tmp_path: Path
) -> None:
    trained, network = found
    knobs = {**network, **switch(trained.bundle, skip=False)}
    assert {name for name in POSTPROCESSING if name.startswith("skip_")} & knobs.keys() >= {"skip_crf", "skip_opening"}
    scored = save_evaluation(trained, tmp_path / "scores", **knobs)
    infer(trained, input=str(test_images), output_dir=str(tmp_path / "masks"), **knobs)
    written = load_masks(trained, tmp_path / "masks", by_id=False)
    plain = {**network, **switch(trained.bundle, skip=True)}
    infer(trained, input=str(test_images), output_dir=str(tmp_path / "plain"), **plain)
    raw = load_masks(trained, tmp_path / "plain", by_id=False)
    assert written.keys() == scored.keys()
    for case, mask in written.items():
        assert torch.equal(mask, scored[case]), case
    assert any(mask.any() for mask in written.values()), "something is found"
    assert any(not torch.equal(mask, raw[case]) for case, mask in written.items()), "the steps do something"
