from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_classes, edit_metrics
from pipeline.issues import InputError


def handler(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": "IgniteMetricHandler", "metric_fn": {"_target_": target, **arguments}, "output_transform": "$x"}


def convert(
    make_draft: Callable[..., Draft],
    dataset: UserDataset,
    key: dict[str, Any],
    more: dict[str, Any],
    *,
    outputs: int = 1,
    labels: dict[str, str] | None = None,
) -> Draft:
    saver = {"_target_": "pipeline.handlers.CaseMetricsSaver", "metric_details": [*key, *more, "other"]}
    draft = make_draft({"validate": {"key_metric": key, "additional_metrics": more, "handlers": [saver]}}, dataset)
    draft.train["network_def"]["out_channels"] = draft.outputs = outputs
    names = labels or {"0": "background", "1": "front", "2": "back"}
    draft.metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = names
    edit_classes(draft)
    edit_metrics(draft)
    return draft


def tables(draft: Draft) -> tuple[dict[str, Any], dict[str, Any]]:
    found = [draft.train["validate"][name] for name in ("key_metric", "additional_metrics")]
    assert all(item["output_transform"] == "$x" for table in found for item in table.values())
    first, second = ({name: item["metric_fn"] for name, item in table.items()} for table in found)
    return first, second


def test_one_label_needs_nothing(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    draft = convert(make_draft, grey, {"dice": handler("DiceMetric")}, {"iou": handler("MeanIoU")})
    assert tables(draft) == ({"dice": {"_target_": "DiceMetric"}}, {"iou": {"_target_": "MeanIoU"}})


def test_metrics_of_one_label_become_metrics_of_several(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    draft = convert(
        make_draft,
        colour,
        {"dice_image": handler("DiceMetric", ignore_empty=False)},
        {
            "iou": handler("MeanIoU"),
            "jaccard": handler("pipeline.metrics.ThresholdedJaccard", threshold=0.65),
            "accuracy": handler("pipeline.metrics.PixelAccuracy"),
            "slices": handler("pipeline.metrics.NonEmptySliceDice"),
            "loss": handler("LossMetric", loss_fn="@loss"),
        },
    )
    key, more = tables(draft)
    both = {"labels": [1, 2]}
    assert key == {"dice_image": {"_target_": "pipeline.metrics.LabelDice", **both, "empty_policy": "perfect"}}
    dice = {"_target_": "pipeline.metrics.LabelDice", "empty_policy": "perfect"}
    slices = {"_target_": "pipeline.metrics.LabelMetric", "metric": {"_target_": "pipeline.metrics.NonEmptySliceDice"}}
    assert more == {
        "dice_cyst": {**dice, "labels": [1], "num_classes": 3},
        "dice_nodule": {**dice, "labels": [2]},
        "iou": {"_target_": "pipeline.metrics.LabelIoU", **both, "empty_policy": "truth_only"},
        "jaccard": {"_target_": "pipeline.metrics.ThresholdedJaccard", "threshold": 0.65, **both},
        "accuracy": {"_target_": "pipeline.metrics.PixelAccuracy", "num_classes": 3},
        "slices_cyst": {**slices, "label": 1, "num_classes": 3},
        "slices_nodule": {**slices, "label": 2, "num_classes": 3},
        "loss": {"_target_": "LossMetric", "loss_fn": "@loss"},
    }
    details = draft.train["validate"]["handlers"][0]["metric_details"]
    assert details == ["dice_image", "iou", "jaccard", "accuracy", "slices_cyst", "slices_nodule", "loss", "other"]


def test_metrics_of_each_label_become_those_of_others(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    dataset = replace(colour, labels=("background", "cyst", "nodule", "vessel"))
    surface = {"_target_": "SurfaceDiceMetric", "class_thresholds": [1.0]}
    draft = convert(
        make_draft,
        dataset,
        {"dice": handler("pipeline.metrics.LabelDice", labels=[1, 2])},
        {
            **{
                f"hd_{name}": handler("pipeline.metrics.HausdorffDistance95", labels=[label], num_classes=3)
                for label, name in ((1, "front"), (2, "back"))
            },
            **{
                f"nsd_{name}": handler("pipeline.metrics.LabelMetric", metric=surface, label=label, num_classes=3)
                for label, name in ((1, "front"), (2, "back"))
            },
        },
        outputs=3,
    )
    key, more = tables(draft)
    assert key == {"dice": {"_target_": "pipeline.metrics.LabelDice", "labels": [1, 2, 3]}}
    assert list(more) == ["hd_cyst", "hd_nodule", "hd_vessel", "nsd_cyst", "nsd_nodule", "nsd_vessel"]
    assert more["hd_nodule"] == {"_target_": "pipeline.metrics.HausdorffDistance95", "labels": [2], "num_classes": 4}
    assert more["hd_vessel"] == {"_target_": "pipeline.metrics.HausdorffDistance95", "labels": [3]}
    nsd = {"_target_": "pipeline.metrics.LabelMetric", "metric": surface, "label": 3, "num_classes": 4}
    assert more["nsd_vessel"] == nsd
    names = draft.train["validate"]["handlers"][0]["metric_details"]
    assert names == ["dice", *more, "other"]


def test_several_labels_become_one(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    more = {
        f"dice_{name}": handler("pipeline.metrics.LabelDice", labels=[label])
        for label, name in ((1, "front"), (2, "back"))
    }
    draft = convert(make_draft, grey, {"dice": handler("pipeline.metrics.LabelDice", labels=[1, 2])}, more, outputs=3)
    key, others = tables(draft)
    assert key["dice"]["labels"] == [1]
    assert others == {"dice_lesion": {"_target_": "pipeline.metrics.LabelDice", "labels": [1]}}


def test_labels_that_the_metadata_do_not_name(make_draft: Callable[..., Draft], grey: UserDataset) -> None:
    more = {
        f"dice_{name}": handler("pipeline.metrics.LabelMetric", metric={}, label=label)
        for label, name in ((1, "x"), (2, "y"))
    }
    key = {"dice": handler("pipeline.metrics.LabelDice", labels=[1, 2])}
    draft = convert(make_draft, grey, key, more, outputs=3, labels={"0": "a", "1": "b", "2": "c"})
    assert list(tables(draft)[1]) == ["dice_lesion"]


def test_a_key_metric_of_one_label_is_refused(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    with pytest.raises(InputError, match="chooses its best epoch by hd"):
        convert(make_draft, colour, {"hd": handler("HausdorffDistanceMetric")}, {})


def test_names_are_told_apart(make_draft: Callable[..., Draft], colour: UserDataset) -> None:
    dataset = replace(colour, labels=("background", "Left lobe", "left-lobe"))
    _, more = tables(convert(make_draft, dataset, {"dice": handler("DiceMetric")}, {"iou": handler("MeanIoU")}))
    assert list(more) == ["dice_left_lobe", "dice_left_lobe_2", "iou"]
