"""The sites of a federation: the bundle, the images and the results of each."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.bundle.config_files import TRAIN, read_json, suggest_name
from pipeline.issues import InputError

#: Name of the file, in the folder of a job and in the folder ``local`` of a site's NVFlare workspace
SITES = "sites.json"
#: Name of the file in the job's folder at a site with the line that says why its part failed
ERROR = "error.txt"
# NVFlare names folders and network addresses after a site, and its own server "server".
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_RESERVED = ("server", "admin", "all", "@all", "local", "startup")
_PATHS = ("bundle", "dataset_dir", "manifest", "output_dir")


@dataclass(frozen=True)
class Site:
    """One site: a hospital that trains on its own images with its own copy of the bundle."""

    name: str  #: as NVFlare knows it
    bundle: Path  #: folder of the site's own copy of the bundle
    dataset_dir: Path  #: folder that the manifest's paths are relative to
    manifest: Path  #: the site's manifest, with training and validation cases
    output_dir: Path  #: gets the site's checkpoints, curves and records
    configs: tuple[str, ...] = (TRAIN,)  #: files in the bundle's ``configs``; later ones override
    #: further settings by id, such as ``{"batch_size": 4}``: what suits this site's machine
    settings: Mapping[str, Any] = field(default_factory=dict)


_FIELDS = tuple(item.name for item in fields(Site) if item.name != "name")


def parse_names(text: str) -> list[str]:
    """Return the names of sites in a text that separates them by commas.

    Args:
        text: for example ``"north,south"``.

    Raises:
        InputError: fewer than two, one twice, or a name that NVFlare does not take.

    Example:
        >>> parse_names("north, south")
        ['north', 'south']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    check_names(names, "--sites")
    if len(names) < 2:
        raise InputError(f"--sites: expected at least two sites, such as --sites north,south, got {text!r}")
    return names


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse names that NVFlare does not take, and two sites with the same name.

    Raises:
        InputError: says which.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not _NAME.fullmatch(name) or name.lower() in _RESERVED:
            raise InputError(
                f"{where}: {name!r} cannot be the name of a site; expected letters, digits, - and _, beginning with a "
                f"letter or digit, and none of {', '.join(_RESERVED)}"
            )
        other = seen.setdefault(name.lower(), name)
        if other is not name:
            detail = "" if other == name else f" ({other} and {name} differ only in capitals)"
            raise InputError(f"{where}: two sites have the name {name!r}{detail}; give each site a name of its own")


def write_sites(sites: Sequence[Site], path: Path) -> Path:
    """Write the sites as JSON, to be edited and to be copied to each site."""
    content = {site.name: {key: value for key, value in asdict(site).items() if key != "name"} for site in sites}
    with write_atomically(path) as stream:
        stream.write(json.dumps(content, indent=4, ensure_ascii=False, default=str) + "\n")
    return path


def read_sites(path: Path) -> dict[str, Site]:
    """Read the sites of a file by name.

    Args:
        path: JSON, one object per site; relative paths in it start at the file's folder.

    Raises:
        InputError: the file is missing or no JSON, names a site twice, or a site lacks an entry or has an unknown one.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f'{path}: expected an object with one entry for each site: {{"north": {{...}}, ...}}')
    check_names(list(content), str(path))
    return {name: _read_site(name, entry, path) for name, entry in content.items()}


def find_site(name: str, path: Path) -> Site:
    """Return the settings of one site.

    Args:
        name: as NVFlare knows it.
        path: the file of `read_sites`.

    Raises:
        InputError: as `read_sites`, or the site is not in the file.
    """
    sites = read_sites(path)
    if name not in sites:
        raise InputError(f"site {name!r} is not in {path}, which names {', '.join(sites)}; add an entry for it")
    return sites[name]


def _read_site(name: str, entry: Any, path: Path) -> Site:
    where = f"{path}: site {name!r}"
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected an object with {', '.join(_PATHS)}, got {type(entry).__name__}")
    for key in entry:
        if key not in _FIELDS:
            raise InputError(f"{where}: unknown entry {key!r}; {suggest_name(key, _FIELDS)}")
    for key in _PATHS:
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise InputError(f"{where} has no {key}; expected a path in quotes")
    configs, settings = entry.get("configs", [TRAIN]), entry.get("settings", {})
    if not isinstance(configs, list) or not configs or not all(isinstance(item, str) for item in configs):
        raise InputError(f'{where}: configs must be a list of files in the bundle\'s configs, such as ["{TRAIN}"]')
    if not isinstance(settings, dict):
        raise InputError(f'{where}: settings must be an object, such as {{"batch_size": 4}}')
    paths = {key: path.absolute().parent / Path(entry[key]).expanduser() for key in _PATHS}
    return Site(name, **paths, configs=tuple(configs), settings=settings)
