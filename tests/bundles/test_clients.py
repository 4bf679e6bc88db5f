"""Clients of a bundle: MONAI's federated client for three rounds, and one that brings its own cases."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser, run
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

from pipeline.datasets import load_datalist
from pipeline.issues import InputError
from pipeline.reports.run_summary import read_scores
from tests.bundles.conftest import ROOT, read_json
from tests.bundles.running import EXACT, configs, name_key_metric
from tests.one_line import expect_line

QUICK = {"isic_unet"}
Weights = dict[str, Any]


@dataclass
class Federated:
    """Three rounds of a bundle in MONAI's client."""

    algo: MonaiAlgo
    root: Path
    given: list[Weights] = field(default_factory=list)  #: global weights of each round
    got: list[Weights] = field(default_factory=list)  #: what the client sends back
    rates: list[float] = field(default_factory=list)  #: learning rate of each round's only epoch
    scores: list[dict[str, float]] = field(default_factory=list)  #: of the global weights


def copy_bundle(bundle: Path, folder: Path) -> Path:
    """Copy a bundle out of the repository, with weights that any client must not take for its own."""
    copy = Path(shutil.copytree(bundle, folder / bundle.name, ignore=shutil.ignore_patterns("output", "models")))
    (copy / "models").mkdir()
    (copy / "models/model.pt").write_bytes(b"shipped")
    return copy


def make_algo(bundle: Path, data: dict[str, str], folder: Path) -> MonaiAlgo:
    knobs = {**data, "amp": False, "early_stop_patience": 1}
    algo = MonaiAlgo(
        bundle_root=bundle.name,
        local_epochs=1,
        send_weight_diff=False,
        config_train_filename=["configs/train.json", "configs/phantom.json"],
        train_kwargs={**knobs, "output_dir": str(folder / "out")},
        config_evaluate_filename=["configs/train.json", "configs/evaluate.json", "configs/phantom.json"],
        eval_kwargs={**knobs, "output_dir": str(folder / "evaluated")},
    )
    algo.initialize({ExtraItems.CLIENT_NAME: "site", ExtraItems.APP_ROOT: str(bundle.parent)})
    return algo


@pytest.fixture(scope="module")
def federated(
    bundle: Path, write_data: Callable[[Path], dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Federated:
    root = tmp_path_factory.mktemp("federated")
    algo = make_algo(copy_bundle(bundle, root / "app"), write_data(bundle), root)
    done = Federated(algo, root)
    trainer: Any = algo.trainer
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: done.rates.append(trainer.optimizer.param_groups[0]["lr"]))
    weights = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    for factor in (1.0, 0.9, 0.8):
        given = {
            name: (value * factor if value.is_floating_point() else value).numpy() for name, value in weights.items()
        }
        algo.train(ExchangeObject(weights=given))
        weights = {name: value.clone() for name, value in algo.get_weights().weights.items()}
        done.given.append(given)
        done.got.append(weights)
        done.scores.append(algo.evaluate(ExchangeObject(weights=given)).metrics)
    return done


def test_each_round_trains_what_it_is_given(federated: Federated, bundle: Path) -> None:
    trainer: Any = federated.algo.trainer
    assert (trainer.state.epoch, trainer.state.iteration) == (3, 3 * trainer.state.epoch_length)
    names = [name for name, _ in trainer.network.named_parameters()]
    for given, got in zip(federated.given, federated.got, strict=True):
        moved = [float(np.abs(got[name].numpy() - given[name]).max()) for name in names]
        assert max(moved) > 0, "it was trained"
        assert max(moved) < 0.5, "from these weights and no others"
    rate = read_json(bundle / "configs/train.json")["learning_rate"]
    assert federated.rates == pytest.approx([rate] * 3)
    newest = torch.load(federated.root / "out/last_epoch=3.pt", weights_only=True)["network"]
    assert all(torch.equal(newest[name], federated.got[-1][name]) for name in names)


def test_each_round_scores_the_global_weights(federated: Federated, bundle: Path) -> None:
    evaluator: Any = federated.algo.evaluator
    state = evaluator.network.state_dict()
    assert all(np.array_equal(state[name].numpy(), value) for name, value in federated.given[-1].items())
    first = {name: torch.as_tensor(value) for name, value in federated.given[0].items()}
    evaluator.network.load_state_dict(first)
    evaluator.run()
    again = {name: float(value) for name, value in evaluator.state.metrics.items()}
    assert again == pytest.approx({name: float(value) for name, value in federated.scores[0].items()}, nan_ok=True)
    assert math.isfinite(float(federated.scores[0][name_key_metric(bundle)]))


def test_the_folder_of_the_rounds_is_that_of_one_run(federated: Federated) -> None:
    out = federated.root / "out"
    assert sorted(path.name for path in out.glob("*.pt")) == ["last_epoch=2.pt", "last_epoch=3.pt", "model.pt"]
    record = json.loads((out / "run.json").read_text())
    assert (record["status"], record["runs"], record["epochs"]) == ("finished", 3, 3)
    assert not (out / ".run.lock").exists()
    copy = federated.root / "app" / federated.algo.bundle_root.rpartition("/")[2]
    assert (copy / "models/model.pt").read_bytes() == b"shipped"
    assert not [path for path in copy.rglob("*") if path.name in ("output", "run.json", "__pycache__")]


def test_another_client_in_the_same_folder_gets_an_ordinary_exception(
    federated: Federated, data: dict[str, str]
) -> None:
    copy = Path(federated.algo.bundle_root)
    algo = make_algo(copy, data, federated.root)
    with pytest.raises(InputError, match=r"last_epoch=3\.pt is from an earlier run"):
        algo.train(ExchangeObject(weights=federated.given[0]))


def bring_cases(bundle: Path, data: dict[str, str], **changes: Any) -> dict[str, Any]:
    """Return what a client such as MONAI Label overrides."""
    fold = read_json(bundle / "configs/train.json")["fold"]
    lists = {
        f"{place}#dataset#data": [
            {key: item[key][0] if len(item[key]) == 1 else item[key] for key in ("image", "label")}
            for item in load_datalist(**data, split=split, fold=fold)
        ]
        for place, split in (("train", "train"), ("validate", "val"))
    }
    return {**lists, "bundle_root": str(bundle), "train#trainer#max_epochs": 1, **EXACT, **changes}


def add_ckpt_dir(bundle: Path) -> None:
    path = bundle / "configs/train.json"
    config = read_json(path)
    (handler,) = (h for h in config["train"]["handlers"] if h["_target_"] == "pipeline.handlers.TrainingRun")
    handler["ckpt_dir"] = "$@bundle_root + '/models'"
    path.write_text(json.dumps(config))


def test_a_client_brings_its_cases_and_trains_twice(
    bundle: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of the repository there is no manifest."""
    monkeypatch.chdir(tmp_path)
    copy = copy_bundle(bundle, tmp_path)
    add_ckpt_dir(copy)
    out = tmp_path / "out"
    for count in (1, 2):
        options = bring_cases(copy, data, output_dir=str(out), dataset_dir="nowhere", manifest="nowhere.json")
        run(config_file=configs(copy, "train.json", "phantom.json"), **options)
        record = json.loads((out / "run.json").read_text())
        assert (record["status"], record["epochs"], len(record.get("previous", []))) == ("finished", 1, count - 1)
        assert (record["manifest"], record["dataset_dir"]) == (None, None)
        assert (copy / "models/model.pt").read_bytes() == (out / "model.pt").read_bytes()
        assert (copy / "models/model_shipped.pt").read_bytes() == b"shipped"
    items = options["validate#dataset#data"]
    first = [item["image"] if isinstance(item["image"], str) else item["image"][0] for item in items]
    scores = read_scores(out / f"{name_key_metric(bundle)}_raw.csv")
    assert list(scores) == [Path(file).name.partition(".")[0] for file in first]


def test_a_site_without_data_is_told_so(bundle: Path, data: dict[str, str], tmp_path: Path) -> None:
    options = bring_cases(bundle, data, output_dir=str(tmp_path / "out"), **{"train#dataset#data": []})
    with expect_line("^there are no training cases: the list in train#dataset#data is empty; give it at least one"):
        run(config_file=configs(bundle, "train.json", "phantom.json"), **options)


def test_a_schedule_is_as_long_as_the_training_that_a_client_asks_for(bundle: Path) -> None:
    parser = ConfigParser()
    parser.read_config(configs(bundle, "train.json"))
    assert parser.get_parsed_content("lr_scheduler#t_total") == parser.get("max_epochs")
    assert parser.get_parsed_content("lr_scheduler#warmup_steps") == 1
    parser["train#trainer#max_epochs"] = 7
    parser.parse(reset=True)
    assert parser.get_parsed_content("lr_scheduler#t_total") == 7
    parser["train#trainer#max_epochs"] = 1
    parser.parse(reset=True)
    assert parser.get_parsed_content("lr_scheduler#warmup_steps") == 0, "the only epoch is no warm-up"


def test_a_site_whose_labels_differ_is_told_which_values(
    write_data: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    bundle = ROOT / "bundles/hippocampus_segresnet"
    options = bring_cases(bundle, write_data(bundle), output_dir=str(tmp_path / "out"))
    item = options["train#dataset#data"][0]
    label: Any = nibabel.load(item["label"])
    changed = np.asarray(label.dataobj).astype(np.uint8)
    changed[0, 0, 0] = 3
    item["label"] = str(tmp_path / "label.nii.gz")
    nibabel.save(nibabel.Nifti1Image(changed, label.affine), item["label"])
    with expect_line(r"label\.nii\.gz has the values \[0, 1, 2, 3\], expected only \[0, 1, 2\]"):
        run(config_file=configs(bundle, "train.json", "phantom.json"), **options)
