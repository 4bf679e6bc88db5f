"""The NVFlare job: no code and no config of the bundle in it, the right first weights, one class at the sites."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.federated.job import EXECUTOR, Plan, read_labels, write_job
from pipeline.federated.sites import read_sites
from pipeline.issues import InputError
from pipeline.weights import read_plain
from tests.bundles.conftest import FAMILIES, write_phantom
from tests.federated.conftest import ROOT

PLACES = {"dataset_dir": "/data/{site}", "manifest": "/data/{site}.json", "output_dir": "/out/{site}"}


@pytest.fixture
def plan(bundle: Path) -> Plan:
    return Plan(bundle, ("north", "south"), rounds=3, local_epochs=2, configs=("train.json", "tiny.json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_only_configs_of_nvflare_and_weights_are_in_the_job(plan: Plan, tmp_path: Path) -> None:
    job = write_job(plan, tmp_path / "federation", PLACES)
    assert sorted(str(path.relative_to(job)) for path in job.rglob("*") if path.is_file()) == [
        "app_client/config/config_fed_client.json",
        "app_server/config/config_fed_server.json",
        "app_server/config/environment.json",
        "app_server/config/federation.json",
        "app_server/models/initial.pt",
        "meta.json",
    ]
    client = read(job / "app_client/config/config_fed_client.json")
    (executor,) = client["executors"]
    assert executor["executor"] == {
        "path": EXECUTOR,
        "args": {"rounds": 3, "local_epochs": 2, "labels": {"0": "background", "1": "lesion"}},
    }
    assert client["components"] == []
    meta = read(job / "meta.json")
    assert meta["deploy_map"] == {"app_server": ["server"], "app_client": ["north", "south"]}
    assert (meta["min_clients"], meta["mandatory_clients"]) == (2, ["north", "south"])


def test_the_server_averages_all_sites_and_chooses_by_the_bundles_metric(plan: Plan, tmp_path: Path) -> None:
    job = write_job(plan, tmp_path / "federation", PLACES)
    server = read(job / "app_server/config/config_fed_server.json")
    parts = {part["id"]: part["args"] for part in (*server["workflows"], *server["components"])}
    assert parts["average"] == {"num_clients": 2, "num_rounds": 3, "persistor_id": "persistor"}
    assert parts["selector"] == {"key_metric": "dice_image", "weigh_by_local_iter": True}
    assert parts["score"]["participating_clients"] == ["north", "south"]


def test_the_first_weights_are_those_of_the_seed(plan: Plan, tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config([str(plan.bundle / "configs" / name) for name in plan.configs])
    torch.manual_seed(5)
    expected = parser.get_parsed_content("network_def").state_dict()
    before = torch.get_rng_state()
    job = write_job(replace(plan, seed=5), tmp_path / "federation", PLACES)
    weights = read_plain(job / "app_server/models/initial.pt")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers go on"


def test_weights_to_start_from(plan: Plan, tmp_path: Path) -> None:
    job = write_job(replace(plan, seed=5), tmp_path / "first", PLACES)
    start = job / "app_server/models/initial.pt"
    other = write_job(replace(plan, checkpoint=start), tmp_path / "second", PLACES) / "app_server/models/initial.pt"
    first, second = read_plain(start), read_plain(other)
    assert all(torch.equal(first[name], second[name]) for name in first)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "foreign.pt")
    with pytest.raises(InputError, match=r"foreign.pt does not fit the network"):
        write_job(replace(plan, checkpoint=tmp_path / "foreign.pt"), tmp_path / "third", PLACES)
    assert not (tmp_path / "third").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "foreign.pt", "second"]


def test_the_places_of_the_sites(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_job(plan, Path("federation"), {**PLACES, "dataset_dir": "data/{site}/images"})
    sites = read_sites(Path("federation/sites.json"))
    assert sites["south"].dataset_dir == tmp_path / "data/south/images"
    assert (sites["north"].manifest, sites["north"].output_dir) == (Path("/data/north.json"), Path("/out/north"))
    assert (sites["north"].bundle, sites["north"].configs) == (plan.bundle, plan.configs)


def test_a_folder_that_exists(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists; choose another -o"):
        write_job(plan, tmp_path, PLACES)


def test_every_bundle_can_be_federated(tmp_path: Path) -> None:
    for bundle in sorted((ROOT / "bundles").iterdir()):
        plan = Plan(bundle, ("north", "south"), 2, 1, ("train.json", "phantom.json"))
        job = write_job(plan, tmp_path / bundle.name, PLACES)
        federation = read(job / "app_server/config/federation.json")
        metric = ConfigParser.load_config_file(str(bundle / "configs/train.json"))["validate"]["key_metric"]
        assert federation["key_metric"] in metric
        assert federation["labels"] == read_labels(bundle)
        assert federation["labels"]["0"] == "background"


def test_the_labels_of_a_bundle_are_those_of_its_manifest(tmp_path: Path) -> None:
    """Otherwise a site with the bundle's own data would be refused."""
    # The phantom of braintumor_unet calls its one category by another name.
    bundles = [ROOT / "bundles" / name for name in sorted(FAMILIES - {"braintumor_unet"})]
    for number, bundle in enumerate(bundles):
        manifest = read_manifest(write_phantom(bundle, tmp_path / str(number))["manifest"])
        assert_same(read_labels(bundle), manifest.labels)
    for path in sorted((ROOT / "data_manifests").glob("*.json")):
        manifest = read_manifest(path)
        bundles = [
            item for item in sorted((ROOT / "bundles").iterdir()) if item.name.startswith(path.stem.split("_")[0])
        ]
        assert bundles, path
        for bundle in bundles:
            assert_same(read_labels(bundle), manifest.labels)


def assert_same(labels: dict[str, str] | None, others: Mapping[int, str]) -> None:
    assert labels is not None
    assert {int(label): name for label, name in labels.items()} == {
        label: name.casefold() for label, name in others.items()
    }
