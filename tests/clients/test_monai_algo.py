"""MONAI's federated client: one engine for three rounds, as NVFlare calls it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import run
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

from tests.bundles.running import name_key_metric
from tests.clients.copies import build_network, digest, load_weights, same_weights

ROUNDS = 3


@dataclass
class Site:
    """A client and what its rounds gave."""

    algo: Any
    bundle: Path
    data: dict[str, str]
    metric: str
    sent: list[dict[str, torch.Tensor]]
    returned: list[dict[str, torch.Tensor]]
    scores: list[float]
    epochs: list[int]
    before: dict[str, str]


def clone(weights: Any) -> dict[str, torch.Tensor]:
    return {key: torch.as_tensor(value).clone() for key, value in weights.items()}


@pytest.fixture(scope="module")
def site(small: Path, data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    before = digest(small)
    knobs = {**data, "amp": False}
    algo = MonaiAlgo(
        bundle_root=str(small),
        local_epochs=1,
        train_kwargs={**knobs, "output_dir": str(folder / "train")},
        eval_kwargs={**knobs, "output_dir": str(folder / "evaluate")},
    )
    site = Site(algo, small, data, name_key_metric(small), [], [], [], [], before)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        algo.initialize(extra={ExtraItems.CLIENT_NAME: "site"})
        weights = load_weights(small / "models/model.pt")
        for _ in range(ROUNDS):
            site.sent.append(clone(weights))
            algo.train(ExchangeObject(weights=clone(weights)), extra={})
            weights = clone(algo.get_weights(extra={}).weights)
            site.returned.append(weights)
            site.epochs.append(algo.trainer.state.epoch)
            metrics = algo.evaluate(ExchangeObject(weights=clone(weights)), extra={}).metrics
            site.scores.append(metrics[site.metric])
        algo.finalize()
    return site


def test_every_round_trains_an_epoch_from_the_global_weights(site: Site) -> None:
    assert site.epochs == [1, 2, 3]
    for sent, returned in zip(site.sent, site.returned, strict=True):
        assert not same_weights(sent, returned)
        assert set(sent) == set(returned)


def test_evaluation_scores_the_global_weights(site: Site, tmp_path: Path) -> None:
    """Scores are those of ``evaluate.json`` with the same weights, whatever was trained before."""
    for number in (0, ROUNDS - 1):
        torch.save(site.returned[number], tmp_path / "model.pt")
        output_dir = tmp_path / f"round{number}"
        parser = run_evaluation(site, tmp_path / "model.pt", output_dir)
        assert site.scores[number] == pytest.approx(parser, abs=1e-6, nan_ok=True)


def run_evaluation(site: Site, checkpoint: Path, output_dir: Path) -> float:
    import csv

    run(
        config_file=[str(site.bundle / "configs" / file) for file in ("train.json", "evaluate.json")],
        logging_file=False,
        bundle_root=str(site.bundle),
        checkpoint=str(checkpoint),
        output_dir=str(output_dir),
        amp=False,
        **site.data,
    )
    with (output_dir / "metrics.csv").open() as stream:
        return float(dict(row[:2] for row in csv.reader(stream))[site.metric])


def test_the_bundle_stays_as_it_is(site: Site) -> None:
    assert digest(site.bundle) == site.before
    build_network(site.bundle).load_state_dict(site.returned[-1])
