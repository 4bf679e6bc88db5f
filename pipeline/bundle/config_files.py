"""Find bundles in their folders and read the JSON files in them."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets.manifests.strict_json import parse_json
from pipeline.issues import InputError

BUNDLES = Path("bundles")
METADATA = "metadata.json"
# A copy of the dataset's manifest, in bundles whose dataset the suite describes; no config.
MANIFEST = "manifest.json"
TRAIN, INFERENCE, EVALUATE = "train.json", "inference.json", "evaluate.json"
# MONAI's list of files that a receiver downloads.
DOWNLOADS = "large_files.yml"


def find_bundles(folder: Path) -> list[Path]:
    """Return the folders of a folder of bundles, sorted by name, without hidden ones.

    Args:
        folder: the folder of bundles.

    Raises:
        InputError: there is no such folder.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")
    except FileNotFoundError:
        where = "" if folder.is_absolute() else f" in {Path.cwd()}"
        hint = "type the command in the folder that holds bundles/, or name it: --bundles DIR"
        raise InputError(f"there is no folder {folder}{where}; {hint}") from None
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {(error.strerror or str(error)).lower()}") from None


def find_bundle(name: str, folders: Sequence[Path]) -> Path:
    """Return the folder of an existing bundle.

    Args:
        name: its name, or the path of a folder.
        folders: where names are looked for; the first ones come first.

    Raises:
        InputError: there is no such bundle; the nearest name is suggested.
    """
    if os.sep in name or "/" in name:
        if (Path(name) / "configs").is_dir():
            return Path(name)
        raise InputError(f"{name} is not a bundle; expected a folder with configs/ in it, or a bundle's name")
    known = {bundle.name: bundle for folder in reversed(folders) if folder.is_dir() for bundle in find_bundles(folder)}
    if name in known:
        return known[name]
    if (Path(name) / "configs").is_dir():
        return Path(name)
    if Path(name).is_dir():
        raise InputError(f"{name} is not a bundle; expected a folder with configs/ in it, or a bundle's name")
    if not known:
        where = " and ".join(dict.fromkeys(str(folder) for folder in folders))
        hint = "type the command in the folder that holds bundles/, or give the bundle's path"
        raise InputError(f"there is no bundle in {where}; {hint}")
    raise InputError(f"unknown bundle {name!r}; {suggest_name(name, known)}")


def list_configs(folder: Path) -> list[Path]:
    """Return the configs and the metadata in a folder ``configs``, sorted by name, without the manifest.

    Args:
        folder: the folder, of a bundle.
    """
    return [path for path in sorted(folder.glob("*.json")) if path.name != MANIFEST]


def find_extra(bundle: Path, name: str) -> Path:
    """Return a config that changes the bundle's own.

    Args:
        bundle: folder of the bundle.
        name: path of a file, or the name of one in the bundle's ``configs``.

    Raises:
        InputError: there is no such file; the nearest name is suggested.
    """
    for path in (Path(name), bundle / "configs" / name):
        if path.is_file():
            return path
    hint = suggest_name(name, [path.name for path in list_configs(bundle / "configs")])
    raise InputError(f"--config_file: no file {name}, neither here nor in {bundle / 'configs'}; {hint}")


def find_output(bundle: Path, train: Mapping[str, Any]) -> Path:
    """Return the folder that a bundle's trainings write to, relative to the current one.

    Args:
        bundle: folder of the bundle.
        train: its ``train.json``. Only a plain ``output_dir`` is read: to resolve an expression would run its code.

    Example:
        >>> find_output(Path("bundles/cells"), {"output_dir": "runs/cells"})
        PosixPath('runs/cells')
        >>> find_output(Path("bundles/cells"), {})
        PosixPath('output/cells')
    """
    text = train.get("output_dir")
    plain = isinstance(text, str) and text and text[0] not in "$@%"
    return Path(str(text)) if plain else Path("output") / bundle.absolute().name


def read_config(bundle: Path, name: str, *, optional: bool = False) -> dict[str, Any]:
    """Read a JSON object of a bundle.

    Args:
        bundle: folder of the bundle.
        name: the file in its ``configs``.
        optional: return an empty object if there is no such file.

    Raises:
        InputError: the file is missing, is not JSON, or holds no object; one line with the place.
    """
    path = bundle / "configs" / name
    if optional and not path.is_file():
        return {}
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data


def read_json(path: Path) -> Any:
    """Read a JSON file strictly: no duplicate keys, no NaN.

    Raises:
        InputError: the file is missing or is not JSON; one line with the place.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    data, issues = parse_json(content)
    if issues:
        more = f"; {issues[0].hint}" if issues[0].hint else ""
        raise InputError(f"{path}: {issues[0].message}{more}")
    return data


def read_downloads(content: bytes) -> dict[str, str]:
    r"""Return the digests of the files that a receiver downloads, by path within the bundle.

    Args:
        content: of ``large_files.yml``. What is wrong with it, the audit says: an entry without path is left out, one
            without SHA-256 gets the digest "", as one of another kind does.

    Example:
        >>> read_downloads(b"large_files:\n- {path: models/model.pt, url: 'https://a.org/b', hash_val: aB12}")
        {'models/model.pt': 'ab12'}
    """
    import yaml

    try:
        data = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError):  # others wrote it
        return {}
    return list_downloads(data)


def list_downloads(data: Any) -> dict[str, str]:
    """Return the same as `read_downloads` of what the file holds."""
    entries = data.get("large_files") if isinstance(data, dict) else None
    return {
        str(entry["path"]): str(entry.get("hash_val", "")).lower() if _is_sha256(entry) else ""
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and "path" in entry
    }


def _is_sha256(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("hash_type", "sha256")).lower() == "sha256"


def suggest_name(word: str, known: Iterable[str], *, most: int | None = None) -> str:
    """Return the end of a message about an unknown name: the nearest one, or all.

    Args:
        word: the unknown name.
        known: the names that exist.
        most: how many names to list if none is near; None lists all.

    Example:
        >>> suggest_name("brain_unte", ["brain_unet", "lung_unet"])
        "did you mean 'brain_unet'?"
        >>> suggest_name("x", ["brain_unet", "lung_unet"])
        'known: brain_unet, lung_unet'
        >>> suggest_name("x", ["brain_unet", "lung_unet"], most=1)
        'known: brain_unet and 1 more'
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    more = f" and {len(names) - most} more" if most is not None and len(names) > most else ""
    return f"known: {', '.join(names[:most]) or 'none'}{more}"
