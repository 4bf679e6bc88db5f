"""Names and files of sites."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.federated.sites import Site, find_site, parse_names, read_sites, write_sites
from pipeline.issues import InputError

PATHS = {key: f"{key}_of_it" for key in ("bundle", "dataset_dir", "manifest", "output_dir")}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_sites_are_read_as_they_were_written(tmp_path: Path) -> None:
    paths = (tmp_path / "b", tmp_path / "images", tmp_path / "m.json", tmp_path / "out")
    sites = [Site("north", *paths), Site("south", *paths, ("train.json", "small.json"), {"batch_size": 2})]
    assert read_sites(write_sites(sites, tmp_path / "sites.json")) == {"north": sites[0], "south": sites[1]}
    assert find_site("south", tmp_path / "sites.json") == sites[1]


def test_relative_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    site = read_sites(write(Path("folder/sites.json"), {"north": PATHS}))["north"]
    assert site.dataset_dir == tmp_path / "folder/dataset_dir_of_it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("north,north", "--sites: two sites have the name 'north'; give each site a name of its own"),
        ("north, North", "two sites have the name 'North' (north and North differ only in capitals)"),
        ("north", "--sites: expected at least two sites, such as --sites north,south, got 'north'"),
        ("", "expected at least two sites"),
        ("north,../south", "'../south' cannot be the name of a site; expected letters, digits, - and _"),
        ("north,server", "'server' cannot be the name of a site"),
    ],
)
def test_names_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_names(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"north": {}, "north": {}}', "duplicate key 'north'"),
        ({"north": PATHS, "NORTH": PATHS}, "two sites have the name 'NORTH'"),
        ({}, "expected an object with one entry for each site"),
        ({"north": {**PATHS, "manifst": "x"}}, "site 'north': unknown entry 'manifst'; did you mean 'manifest'?"),
        ({"north": {**PATHS, "manifest": ""}}, "site 'north' has no manifest; expected a path in quotes"),
        ({"north": {**PATHS, "settings": [1]}}, "settings must be an object"),
        ({"north": {**PATHS, "configs": "train.json"}}, "configs must be a list of files"),
        ({"north": 7}, "site 'north': expected an object with bundle, dataset_dir, manifest, output_dir, got int"),
        ("{", "sites.json: line 1"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        read_sites(write(tmp_path / "sites.json", content))


def test_a_site_that_is_not_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "sites.json", {"north": PATHS, "south": PATHS})
    with pytest.raises(InputError, match=r"site 'west' is not in .*sites.json, which names north, south; add an entry"):
        find_site("west", path)
