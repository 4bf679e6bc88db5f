"""One site's part: rounds are one training, scores are those of the weights given, and faults are one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.datasets.manifests.manifest_file import read_manifest, write_manifest
from pipeline.federated.site_training import SiteTraining, count_cases
from pipeline.federated.sites import Site
from pipeline.handlers.run.exits import find_line
from pipeline.issues import InputError
from pipeline.reports.run_summary import read_scores
from pipeline.weights import read_plain

LABELS = {"0": "background", "1": "lesion"}


def copy_weights(training: SiteTraining) -> dict[str, Any]:
    return {name: value.numpy().copy() for name, value in training.trainer.network.state_dict().items()}


def run_alone(site: Site, epochs: int, **options: Any) -> dict[str, torch.Tensor]:
    """Train with the command; return the weights of the last epoch."""
    output = site.output_dir.with_name("alone")
    monai.bundle.run(
        config_file=[str(site.bundle / "configs" / name) for name in site.configs],
        bundle_root=str(site.bundle),
        dataset_dir=str(site.dataset_dir),
        manifest=str(site.manifest),
        output_dir=str(output),
        max_epochs=epochs,
        logging_file=False,
        **options,
    )
    weights: dict[str, torch.Tensor] = read_plain(output / f"last_epoch={epochs}.pt")["network"]
    return weights


def test_rounds_of_one_site_are_an_ordinary_training(make_site: Callable[..., Site]) -> None:
    site = make_site()
    training = SiteTraining(site, rounds=3, local_epochs=2, labels=LABELS)
    weights, rates = copy_weights(training), []
    for _ in range(3):
        weights, _ = training.train(weights)
        rates.append(training.trainer.optimizer.param_groups[0]["lr"])
    training.close()
    expected = run_alone(site, 6, val_interval=7)
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        assert np.array_equal(weights[name], value.numpy()), name
    assert rates[0] > rates[1] > rates[2], "one schedule over all rounds"
    record = json.loads((site.output_dir / "run.json").read_text())
    assert (record["status"], record["epochs"], record["runs"]) == ("finished", 6, 3)


def test_a_round_scores_the_weights_that_it_was_given(make_site: Callable[..., Site]) -> None:
    site = make_site()
    training = SiteTraining(site, rounds=2, local_epochs=1)
    first = copy_weights(training)
    trained, scores = training.train(first)
    again, later = training.train(trained)
    assert training.score(first) == scores
    assert training.score(trained) == later
    assert set(scores) >= {"dice_image"}
    assert any(not np.array_equal(again[name], trained[name]) for name in trained)
    training.close()
    torch.save({name: torch.as_tensor(value) for name, value in trained.items()}, site.output_dir / "given.pt")
    monai.bundle.run(
        config_file=[str(site.bundle / "configs" / name) for name in ("train.json", "evaluate.json", "tiny.json")],
        bundle_root=str(site.bundle),
        dataset_dir=str(site.dataset_dir),
        manifest=str(site.manifest),
        checkpoint=str(site.output_dir / "given.pt"),
        output_dir=str(site.output_dir / "evaluate"),
        flips=[],
        logging_file=False,
    )
    by_case = read_scores(site.output_dir / "evaluate/dice_image_raw.csv")
    assert np.mean(list(by_case.values())) == pytest.approx(later["dice_image"], abs=1e-6)


def test_cases_are_counted_once(make_site: Callable[..., Site]) -> None:
    site = make_site(images=10)
    training = SiteTraining(site, rounds=1, local_epochs=1)
    splits = [case.split for case in read_manifest(site.manifest).cases]
    assert (training.n_val, training.n_train) == (splits.count("val"), splits.count("train"))
    assert count_cases([{"case_id": "a"}] * 4 + [{"case_id": "b"}]) == 2


def test_a_round_stops_when_it_is_asked_to(make_site: Callable[..., Site]) -> None:
    training = SiteTraining(make_site(images=16), rounds=1, local_epochs=50)
    training.train(copy_weights(training), lambda: training.trainer.state.iteration >= 4)
    assert training.trainer.state.iteration == 4


def test_weights_of_another_network(make_site: Callable[..., Site]) -> None:
    training = SiteTraining(make_site(), rounds=1, local_epochs=1)
    weights = copy_weights(training)
    name = next(iter(weights))
    for wrong in (
        {**weights, name: np.zeros((9, 9), np.float32)},
        {key: value for key, value in weights.items() if key != name},
        {**weights, "more": np.zeros(1, np.float32)},
    ):
        with pytest.raises(InputError, match=r"do not fit .*isic_unet at site 'north'.*same network_def"):
            training.train(wrong)


def test_labels_that_differ(make_site: Callable[..., Site]) -> None:
    site = make_site()
    manifest = read_manifest(site.manifest)
    write_manifest(replace(manifest, labels={0: "background", 1: "naevus"}), site.manifest)
    with pytest.raises(InputError) as caught:
        SiteTraining(site, 1, 1, LABELS)
    line = str(caught.value)
    assert "labels of site 'north' differ" in line
    assert "0 background, 1 naevus" in line
    assert "0 background, 1 lesion" in line
    # The hint: the manifest with these labels is taken.
    write_manifest(manifest, site.manifest)
    SiteTraining(site, 1, 1, LABELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_dir": Path("nowhere")}, "site 'north' has no data: there is no folder nowhere; correct dataset_dir"),
        ({"manifest": Path("nowhere.json")}, "cannot read the manifest nowhere.json: no such file"),
        ({"bundle": Path("nowhere")}, "cannot read nowhere/configs/train.json: no such file"),
        ({"configs": ("train.json", "smal.json")}, "smal.json: no such file"),
    ],
)
def test_a_file_that_is_missing(make_site: Callable[..., Site], change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        SiteTraining(replace(make_site(), **change), 1, 1)


def test_a_folder_without_images(make_site: Callable[..., Site], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    site = replace(make_site(), dataset_dir=tmp_path / "empty")
    with pytest.raises(Exception, match="load_datalist") as caught:
        SiteTraining(site, 1, 1)
    line = find_line(caught.value)
    assert line is not None
    assert f"the dataset folder {tmp_path / 'empty'} holds none of the 4 cases" in str(line)


def test_an_earlier_run(make_site: Callable[..., Site]) -> None:
    site = make_site()
    training = SiteTraining(site, 1, 1)
    training.train(copy_weights(training))
    training.close()
    with pytest.raises(InputError, match=r"last_epoch=1.pt is from an earlier run of site 'north'.*another output_dir"):
        SiteTraining(site, 1, 1)
    SiteTraining(replace(site, output_dir=site.output_dir.with_name("other")), 1, 1)


def test_images_with_other_channels(make_site: Callable[..., Site]) -> None:
    site = make_site()
    settings = {"network_def#in_channels": 2}
    training = SiteTraining(replace(site, settings=settings), 1, 1)
    with pytest.raises(InputError) as caught:
        training.train(copy_weights(training))
    line = str(caught.value)
    assert "the network expects 2 channels, the images have 3" in line
    assert "give site 'north' images with the channels that the bundle takes" in line
    assert "set network_def" not in line
    assert Image.open(next(site.dataset_dir.rglob("*.jpg"))).mode == "RGB"
