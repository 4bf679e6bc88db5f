"""What is said before a simulation starts; the simulation itself is tested with NVFlare in tests/clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.commands.cli import main
from pipeline.datasets.manifests.manifest_file import read_manifest, write_manifest
from pipeline.federated import simulation
from pipeline.federated.sites import SITES, Site, read_sites, write_sites
from pipeline.issues import InputError


@pytest.fixture
def federation(bundle: Path, make_site: Callable[..., Site], tmp_path: Path) -> Path:
    """A federation written by the command, with two sites on phantoms."""
    folder = tmp_path / "federation"
    words = f"federated new {bundle}/ --sites north,south --rounds 2 --configs train.json,tiny.json -o {folder}"
    assert main(words.split()) == 0
    write_sites([make_site("north"), make_site("south", seed=1)], folder / SITES)
    return folder


def change(folder: Path, name: str, **values: Path) -> None:
    sites = read_sites(folder / SITES)
    sites[name] = replace(sites[name], **values)
    write_sites(list(sites.values()), folder / SITES)


def test_the_sites_of_a_federation(federation: Path) -> None:
    assert list(simulation.check_sites(federation)) == ["north", "south"]


def test_a_site_without_data(federation: Path, tmp_path: Path) -> None:
    change(federation, "south", dataset_dir=tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"site 'south' has no data: .*nowhere; correct dataset_dir"):
        simulation.check_sites(federation)


def test_a_site_whose_labels_differ(federation: Path) -> None:
    path = read_sites(federation / SITES)["south"].manifest
    write_manifest(replace(read_manifest(path), labels={0: "background", 1: "naevus"}), path)
    with pytest.raises(InputError, match=r"labels of site 'south' differ: .*1 naevus.* trains 0 background, 1 lesion"):
        simulation.check_sites(federation)


def test_a_manifest_that_is_missing(federation: Path, tmp_path: Path) -> None:
    change(federation, "north", manifest=tmp_path / "nowhere.json")
    with pytest.raises(InputError, match=r"cannot read the manifest .*nowhere\.json"):
        simulation.check_sites(federation)


def test_sites_that_the_job_does_not_know(federation: Path) -> None:
    sites = read_sites(federation / SITES)
    write_sites([*sites.values(), replace(sites["north"], name="west")], federation / SITES)
    with pytest.raises(InputError, match=r"site 'west' in .* is not a site of the job, which has north, south; remove"):
        simulation.check_sites(federation)
    write_sites([sites["north"]], federation / SITES)
    with pytest.raises(InputError, match=r"site 'south' of the job is not in .*sites\.json; add an entry for it"):
        simulation.check_sites(federation)


def test_two_sites_with_the_same_name(federation: Path) -> None:
    text = (federation / SITES).read_text()
    (federation / SITES).write_text(text.replace('"south"', '"north"'))
    with pytest.raises(InputError, match="duplicate key 'north'"):
        simulation.check_sites(federation)


def test_a_folder_that_holds_no_federation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no federation.*make one with pipeline federated new"):
        simulation.check_sites(tmp_path)


def test_without_nvflare(federation: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["federated", "simulate", str(federation)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: this needs NVFlare: pip install 'monai-segmentation-suite[federated]'"]


def test_the_commands_answer_in_one_line(
    federation: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, line in (
        (f"new {bundle}/ --sites a,a -o {tmp_path}/x", "--sites: two sites have the name 'a'"),
        (f"new {bundle}/ --sites a,b -o {federation}", "exists; choose another -o"),
        (f"new {bundle}/ --sites a,b -o {tmp_path}/x --configs tin.json", "tin.json: no such file"),
        (f"result {federation} {bundle}/ -o {tmp_path}/x", "the job has not been run yet"),
        (f"result {tmp_path}/nowhere {bundle}/ -o {tmp_path}/x", "there is no folder"),
    ):
        capsys.readouterr()
        assert main(["federated", *words.split()]) == 1
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith("error: ")
        assert line in error
    assert not (tmp_path / "x").exists()


def test_what_new_prints(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "with a space"
    assert main(["federated", "new", f"{bundle}/", "--sites", "north,south", "-o", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}/sites.json: correct the paths of north, south",
        f"{folder}/job: the NVFlare job, for the server",
        f"try it here: python -m pipeline federated simulate '{folder}'",
    ]
    assert json.loads((folder / SITES).read_text()).keys() == {"north", "south"}
