from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import monai.losses
import pytest
import torch
from monai.bundle import ConfigParser

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_classes
from pipeline.bundle.edits.classes import LOSSES
from pipeline.issues import InputError

BINARY = {
    "threshold": 0.5,
    "loss": "@losses#dice_ce",
    "losses": {
        "dice_ce": {"_target_": "DiceCELoss", "sigmoid": True, "batch": True},
        "focal": {"_target_": "FocalLoss", "gamma": 2.0, "alpha": 0.75},
        "deep": {"_target_": "DeepSupervisionLoss", "loss": {"_target_": "DiceLoss", "sigmoid": True}},
    },
    "train": {
        "transforms": [
            {"_target_": "ClassesToIndicesd", "keys": "label", "num_classes": 2},
            {"_target_": "RandCropByLabelClassesd", "keys": "label", "num_classes": 2, "ratios": [2, 1]},
        ],
        "handlers": [{"_target_": "pipeline.handlers.ThresholdSearch"}, {"_target_": "StatsHandler"}],
    },
    "validate": {
        "inferer": {"_target_": "pipeline.inferers.EnsembleInferer", "activation": "sigmoid"},
        "post": [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {"_target_": "CopyItemsd", "keys": "pred", "names": "prob"},
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": "@threshold"},
            {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": 1},
        ],
    },
}


def multi(labels: int) -> dict[str, Any]:
    return {
        "network_def": {"_target_": "SegResNet", "in_channels": 1, "out_channels": labels},
        "loss": {"_target_": "DiceCELoss", "softmax": True, "to_onehot_y": True, "weight": [0.1] * labels},
        "post": [{"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 2]}],
    }


def test_one_label_needs_nothing(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    draft = make_draft(BINARY, grey)
    before = repr(draft.configs.files)
    edit_classes(draft)
    assert repr(draft.configs.files) == before
    assert draft.changes == []


def test_one_label_becomes_several(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    overrides = {"tta.json": {"threshold": 0.4, "skip_threshold_search": True}}
    draft = make_draft(BINARY, colour, **overrides)
    edit_classes(draft)
    train = draft.train
    assert train["network_def"]["out_channels"] == 3
    assert train["losses"]["dice_ce"] == {"_target_": "DiceCELoss", "softmax": True, "batch": True, "to_onehot_y": True}
    focal = {"_target_": "FocalLoss", "gamma": 2.0, "alpha": 0.75, "use_softmax": True, "to_onehot_y": True}
    assert train["losses"]["focal"] == focal
    assert train["losses"]["deep"]["loss"] == {"_target_": "DiceLoss", "softmax": True, "to_onehot_y": True}
    assert train["train"]["transforms"][0]["num_classes"] == 3
    assert train["train"]["transforms"][1]["ratios"] == [4, 1, 1]
    assert train["train"]["handlers"] == [{"_target_": "StatsHandler"}]
    assert train["validate"]["inferer"]["activation"] == "softmax"
    assert train["validate"]["post"] == [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 2]},
    ]
    assert "threshold" not in train
    assert draft.configs.files["tta.json"] == {}


def test_a_loss_that_is_not_known_is_refused(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    for loss in (
        {"_target_": "torch.nn.BCEWithLogitsLoss"},
        {"_target_": "DeepSupervisionLoss", "loss": {"_target_": "X"}},
    ):
        draft = make_draft({"loss": loss}, colour)
        with pytest.raises(InputError, match="old cannot be converted to 3 labels: its loss") as caught:
            edit_classes(draft)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [2, 3, 5])
def test_several_labels_become_another_number(make_draft: Callable[..., Draft], grey: UserDataset, labels: int) -> None:
    dataset = replace(grey, labels=("background", *(f"part {index}" for index in range(1, labels))))
    draft = make_draft(multi(3), dataset)
    edit_classes(draft)
    assert draft.train["network_def"]["out_channels"] == labels
    assert draft.train["post"][0]["applied_labels"] == list(range(1, labels))
    assert ("weight" in draft.train["loss"]) == (labels == 3)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"DeepSupervisionLoss"}))
def test_converted_losses_learn_the_labels(name: str) -> None:
    """Each converted loss of MONAI takes logits of three classes and an index map, and is lower for the truth."""
    item: dict[str, Any] = {"_target_": name}
    if name != "FocalLoss":
        item["sigmoid"] = True
    assert hasattr(monai.losses, name)
    loss = ConfigParser({"loss": LOSSES[name](item)}).get_parsed_content("loss")
    label = torch.randint(3, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0)).float()
    truth = torch.nn.functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1).float()
    good, bad = loss(20 * truth, label), loss(20 * truth.roll(1, dims=1), label)
    assert torch.isfinite(good)
    assert torch.isfinite(bad)
    assert good < bad


def test_the_ratios_of_the_source_are_kept_whole(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    step = {"_target_": "RandCropByLabelClassesd", "keys": "label", "num_classes": 2, "ratios": [0.5, 0.5]}
    draft = make_draft({"steps": [step]}, colour)
    edit_classes(draft)
    assert draft.train["steps"][0]["ratios"] == [1.0, 0.5, 0.5]
