"""Reading that the layouts of 3-D challenges share: their folders, ``dataset.json``, tables of labels and channels."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Any

from pipeline.datasets.layouts.listing import Listing
from pipeline.datasets.layouts.mask_values import probe_masks
from pipeline.datasets.probes import find_ending
from pipeline.issues import InputError


def find_root(listing: Listing, folder: str) -> str:
    """Return the prefix of paths in the dataset's folder: "" or, if the user gave the folder above, ``"name/"``.

    Raises `InputError` if there is no such folder, or several.
    """
    pattern = re.compile(rf"(?:(?P<prefix>[^/]+)/)?{re.escape(folder)}/[^/]+")
    matches = (pattern.fullmatch(name) for name in listing.known())
    prefixes = sorted({match["prefix"] or "" for match in matches if match})
    if not prefixes:
        expected = f"expected the dataset's folder with {folder}/ and labelsTr/ in it"
        raise InputError(f"no files in {listing.root / folder}; {expected}")
    if len(prefixes) > 1:
        shown = ", ".join(prefix or "." for prefix in prefixes[:3])
        raise InputError(f"{listing.root} holds {len(prefixes)} datasets ({shown}, ...); expected the folder of one")
    return f"{prefixes[0]}/" if prefixes[0] else ""


def list_folder(listing: Listing, folder: str) -> Iterator[str]:
    """Yield the paths of the files directly in a folder, on disk or known from checksums."""
    return (path for path in listing.known() if path.startswith(folder) and "/" not in path[len(folder) :])


def strip_ending(path: str) -> str:
    """Return a file's name without folder and ending.

    Example:
        >>> strip_ending("imagesTr/hippocampus_001.nii.gz")
        'hippocampus_001'
    """
    name = PurePosixPath(path).name
    return name[: len(name) - len(find_ending(name))]


def read_description(listing: Listing, prefix: str) -> dict[str, Any] | None:
    """Return the content of ``dataset.json``, None without one; raise `InputError` if it is not a JSON object."""
    path = f"{prefix}dataset.json"
    if path not in listing.files:
        return None
    content = read_json(listing.root / path)
    if not isinstance(content, dict):
        raise InputError(f"{listing.root / path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_terms(description: Mapping[str, Any], default_name: str) -> dict[str, Any]:
    """Return name, licence and source of a ``dataset.json``, as fields of a manifest."""
    return {
        "name": str(description.get("name") or default_name).strip(),
        "licence": str(description.get("licence") or description.get("license") or ""),
        "source": str(description.get("reference") or ""),
    }


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raise `InputError` with the place if it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def read_label_table(table: Any, where: str) -> dict[int, str]:
    """Return the name of each label id from ``labels`` of a ``dataset.json``.

    That is ``{"0": "background", "1": "tumour"}`` (Decathlon, nnU-Net v1) or ``{"background": 0, ...}`` (v2). Raises
    `InputError` for anything else, such as labels that overlap (nnU-Net's regions).

    Example:
        >>> read_label_table({"background": 0, "tumour": 1}, "dataset.json")
        {0: 'background', 1: 'tumour'}
    """
    if not isinstance(table, Mapping) or not table:
        raise InputError(f"{where}: expected labels as in {{'0': 'background', '1': 'tumour'}}, got {table!r:.60}")
    labels: dict[int, str] = {}
    for key, value in table.items():
        number, name = _read_label(key, value, where)
        if number in labels:
            raise InputError(f"{where}: the label {number} has two names, {labels[number]!r} and {name!r}")
        labels[number] = name
    return dict(sorted(labels.items()))


def _read_label(key: Any, value: Any, where: str) -> tuple[int, str]:
    if isinstance(value, list | tuple):
        raise InputError(
            f"{where}: {key!r} is a region of several labels ({value}), which overlap; a manifest has one label per"
            " voxel: name the values of the masks, --labels 0=background,1=...,2=..."
        )
    # Names may be numbers too, so the side that is an integer in JSON wins.
    number, name = (value, key) if isinstance(value, int) and not isinstance(value, bool) else (key, value)
    if not re.fullmatch(r"\d+", str(number)) or not isinstance(name, str):
        raise InputError(f"{where}: the label {key!r}: {value!r} is not a pair of a name and a number")
    return int(number), name


def number_labels(values: Mapping[int, str], where: str) -> dict[str, Any]:
    """Return ``labels`` and ``mask_values`` of a manifest: ids without gaps for masks whose values may have gaps.

    The background 0 is label 0.

    Args:
        values: name of each value of the masks.
        where: what names them, for the message.

    Raises:
        InputError: 0 is not among them.

    Example:
        >>> number_labels({0: "background", 205: "myocardium", 420: "left atrium"}, "dataset.json")["mask_values"]
        {0: 0, 205: 1, 420: 2}
    """
    if 0 not in values:
        named = quote_labels({0: "background", **values})
        raise InputError(f"{where} does not name 0, the background; name all: --labels {named}")
    ordered = sorted(values, key=lambda value: (value != 0, value))
    labels = {label: values[value] for label, value in enumerate(ordered)}
    return {"labels": labels, "mask_values": {value: label for label, value in enumerate(ordered)}}


def quote_labels(values: Mapping[int, str]) -> str:
    """Return the value of the option ``--labels`` that names these values, quoted for a shell.

    Example:
        >>> quote_labels({2: "left, upper", 0: "background"})
        "'0=background,2=left  upper'"
    """
    names = {value: re.sub("[,=]", " ", name).strip() or f"label {value}" for value, name in sorted(values.items())}
    return quote(",".join(f"{value}={name}" for value, name in names.items()))


def parse_labels(text: str) -> dict[int, str]:
    """Return the name of each label id from the option ``--labels``; raise `InputError` if it cannot be read.

    Example:
        >>> parse_labels("0=background,1=anterior")
        {0: 'background', 1: 'anterior'}
    """
    labels = {}
    for part in text.split(","):
        number, mark, name = (piece.strip() for piece in part.partition("="))
        if not mark or not name or not number.isdecimal() or int(number) in labels:
            raise InputError(f"--labels expects 0=background,1=NAME,... with each number once, got {text!r}")
        labels[int(number)] = name
    if 0 not in labels:
        raise InputError(f"--labels must name 0, the background, got {text!r}")
    return labels


def find_labels(listing: Listing, masks: Iterable[str]) -> dict[int, str]:
    """Return the labels that occur in the masks on disk, numbered names.

    Unreadable masks, and values that are no labels (fractions, negative numbers), are reported later.
    """
    contents = (mask.content for _, mask in probe_masks(listing, masks))
    values = (value for content in contents if content for value in content.counts)
    found = {0, *(int(value) for value in values if value >= 0 and not value % 1)}
    return {number: "background" if number == 0 else f"label {number}" for number in sorted(found)}


def name_channels(description: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return the names in ``modality`` or ``channel_names`` of a ``dataset.json``: ``{"0": "T1", "1": "FLAIR"}``.

    Raises `InputError` if there is no such table, or the numbers are not 0, 1, 2, ...
    """
    table = description.get("channel_names") or description.get("modality")
    if isinstance(table, Mapping) and table and sorted(table) == sorted(str(i) for i in range(len(table))):
        return tuple(str(table[str(index)]) for index in range(len(table)))
    raise InputError(f"{where}: expected channels as in {{'0': 'T1', '1': 'FLAIR'}}, got {table!r:.60}")
