"""Federated training by NVFlare's simulator: two sites, two rounds, what is lost, and what is said of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.datasets import load_datalist
from pipeline.federated import simulation
from pipeline.federated.job import LAST, Plan, write_job
from pipeline.federated.outcome import Outcome, read_outcome
from pipeline.federated.simulation import SIMULATION, simulate
from pipeline.federated.sites import SITES, Site, read_sites, write_sites
from pipeline.issues import InputError
from pipeline.weights import read_plain
from tests.bundles.conftest import ROOT, write_phantom

pytest.importorskip("nvflare", reason="NVFlare is installed with the extra federated, or by make test-clients")
# Long enough that the phantoms are learnt.
SETTINGS: dict[str, dict[str, Any]] = {
    "lgg_unet": {"learning_rate": 0.003, "slices_per_patient": 12},
    "hippocampus_segresnet": {"learning_rate": 0.003},
}
EPOCHS = {"lgg_unet": 5, "hippocampus_segresnet": 6}
# The second site has more cases, so it weighs more.
CASES = {"lgg_unet": ("patients", 5, 9), "hippocampus_segresnet": ("cases", 6, 10)}


def federate(name: str, folder: Path, *, rounds: int = 2, local_epochs: int = 1) -> Path:
    """Write a federation of two sites with phantoms of their own."""
    bundle = ROOT / "bundles" / name
    plan = Plan(bundle, ("north", "south"), rounds, local_epochs, ("train.json", "phantom.json"))
    write_job(plan, folder / "federation", dict.fromkeys(("dataset_dir", "manifest", "output_dir"), "{site}"))
    sites = []
    option, *numbers = CASES[name]
    for seed, (site, number) in enumerate(zip(plan.sites, numbers, strict=True)):
        data = write_phantom(bundle, folder / site, **{option: number}, seed=seed)
        paths = (bundle, Path(data["dataset_dir"]), Path(data["manifest"]), folder / "output" / site)
        sites.append(Site(site, *paths, plan.configs, {**SETTINGS[name], "amp": False}))
    write_sites(sites, folder / "federation" / SITES)
    return folder / "federation"


def change(federation: Path, name: str, **values: Any) -> None:
    sites = read_sites(federation / SITES)
    sites[name] = replace(sites[name], **values)
    write_sites(list(sites.values()), federation / SITES)


def run_command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", "federated", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=580, cwd=ROOT)


@pytest.mark.parametrize("bundle_name", sorted(SETTINGS))
def test_two_rounds_are_better_than_one(bundle_name: str, tmp_path: Path) -> None:
    federation = federate(bundle_name, tmp_path, local_epochs=EPOCHS[bundle_name])
    done = run_command("simulate", federation)
    assert done.returncode == 0, done.stderr
    outcome = read_outcome(federation)
    first, after_one = outcome.rounds
    assert outcome.mean is not None
    assert after_one is not None
    assert outcome.mean > after_one, f"first weights {first}, after round 1 {after_one}, at the end {outcome.mean}"
    assert outcome.missing == []
    check_average(federation)
    done = run_command("result", federation, ROOT / "bundles" / bundle_name, "-o", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new/models/model.pt").is_file()
    check_scores(tmp_path / "new", outcome, federation)
    for site in read_sites(federation / SITES).values():
        record = (site.output_dir / "run.json").read_text()
        assert "token" not in record


def check_average(federation: Path) -> None:
    """The last global weights are the mean of the sites' last weights, by their numbers of training cases."""
    sites = read_sites(federation / SITES)
    last = federation / SIMULATION / "server/simulate_job/app_server/models" / LAST
    given = read_plain(last)["model"]
    counts, states = [], []
    for site in sites.values():
        counts.append(len(load_datalist(site.manifest, site.dataset_dir, "train", 0)))
        (newest, *_) = sorted(site.output_dir.glob("last_epoch=*.pt"), key=lambda path: path.stat().st_mtime)[::-1]
        states.append(read_plain(newest)["network"])
    assert counts[0] != counts[1]
    for key, value in given.items():
        mean = sum(state[key].double() * count for state, count in zip(states, counts, strict=True)) / sum(counts)
        assert torch.allclose(torch.as_tensor(value).double(), mean, atol=1e-5), key


def check_scores(bundle: Path, outcome: Outcome, federation: Path) -> None:
    """The new bundle's weights have the scores that its record says, at a site."""
    import monai.bundle

    from pipeline.reports.run_summary import read_scores

    site = read_sites(federation / SITES)["south"]
    names = ("train.json", "evaluate.json", "phantom.json")
    monai.bundle.run(
        config_file=[str(bundle / "configs" / name) for name in names],
        bundle_root=str(bundle),
        dataset_dir=str(site.dataset_dir),
        manifest=str(site.manifest),
        output_dir=str(bundle.with_name("evaluate")),
        flips=[],
        amp=False,
        logging_file=False,
    )
    values = list(read_scores(bundle.with_name("evaluate") / f"{outcome.key_metric}_raw.csv").values())
    assert sum(values) / len(values) == pytest.approx(outcome.scores["south"][outcome.key_metric], abs=2e-3)


def test_a_site_that_is_killed_in_a_round(tmp_path: Path) -> None:
    federation = federate("lgg_unet", tmp_path, rounds=50)
    output = tmp_path / "output/south"
    killed: list[int] = []

    def kill() -> None:
        while not list(output.glob("last_epoch=*.pt")):
            time.sleep(0.05)
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and is_worker(process, str(federation), "south"):
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(int(process.name))

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    done = run_command("simulate", federation)
    assert killed, done.stderr
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: the process of site south was lost (killed, or out of memory)")
    assert str(federation / SIMULATION) in error
    assert not list(find_workers(str(federation))), "no process is left"
    # What there is can be taken, if one says so.
    done = run_command("result", federation, ROOT / "bundles/lgg_unet", "-o", tmp_path / "new")
    assert done.returncode == 1
    assert "the federation is not complete" in done.stderr or "no weights yet" in done.stderr
    if "--incomplete" in done.stderr:
        done = run_command("result", federation, ROOT / "bundles/lgg_unet", "-o", tmp_path / "new", "--incomplete")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "new/models/model.pt").is_file()


def find_workers(workspace: str) -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and is_worker(process, workspace, ""):
            yield process


def is_worker(process: Path, workspace: str, site: str) -> bool:
    try:
        words = (process / "cmdline").read_bytes().decode().split("\0")
    except OSError:
        return False
    return any(word.startswith(workspace) and word.endswith(site) for word in words) and any(
        word.endswith("simulator_worker") for word in words
    )


def test_a_site_whose_network_differs(tmp_path: Path) -> None:
    federation = federate("lgg_unet", tmp_path)
    change(federation, "south", settings={"network_def#features": [4, 16, 32, 64, 128, 8]})
    with pytest.raises(InputError) as caught:
        simulate(federation)
    line = str(caught.value)
    assert line.startswith("site south: the weights of the federation do not fit the network of ")
    assert "every site needs the same network_def" in line


def test_a_site_whose_images_have_other_channels(tmp_path: Path) -> None:
    federation = federate("lgg_unet", tmp_path)
    # A file that cannot be read would be found before; these are fit to be read, but not what the network takes.
    change(federation, "south", settings={"validate#final_transforms#1#_disabled_": True})
    with pytest.raises(InputError) as caught:
        simulate(federation)
    line = str(caught.value)
    assert line.startswith("site south: the network expects 9 channels, the images have 3")
    assert "give site 'south' images with the channels that the bundle takes" in line


def test_a_site_that_is_not_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = federate("lgg_unet", tmp_path)
    write = simulation._write_local
    monkeypatch.setattr(simulation, "_write_local", lambda folder, sites: write(folder, {"north": sites["north"]}))
    with pytest.raises(InputError, match=r"site south: site 'south' is not in .*sites\.json, which names north"):
        simulate(federation)


def test_a_site_where_the_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = federate("lgg_unet", tmp_path)
    job = federation / "job/app_client/config/config_fed_client.json"
    job.write_text(job.read_text().replace("pipeline.federated.", "pipelin.federated."))
    with pytest.raises(InputError) as caught:
        simulate(federation)
    assert "NVFlare ended without weights" in str(caught.value)
    assert "pipelin.federated.executor.BundleExecutor" in str(caught.value)


def test_a_simulation_that_exists(tmp_path: Path) -> None:
    federation = federate("lgg_unet", tmp_path)
    (federation / SIMULATION).mkdir()
    with pytest.raises(InputError, match="exists; remove it to run the federation again"):
        simulate(federation)
