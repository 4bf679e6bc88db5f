"""What the layouts of 3-D challenges share: names of volumes, tables of labels, pairs of image and label folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.datasets.layouts.listing import Listing
from pipeline.datasets.probes import ImageError, Source, find_ending, probe_image
from pipeline.issues import InputError

IGNORE = "ignore"


def find_root(listing: Listing, folder: str) -> str:
    """Return the prefix of the folder that holds ``folder``: "" or, if the user named the folder above, ``"name/"``.

    Raises:
        InputError: there is no such folder, or several.
    """
    pattern = re.compile(rf"(?:(?P<prefix>[^/]+)/)?{re.escape(folder)}/[^/]+")
    matches = (pattern.fullmatch(name) for name in listing.known())
    prefixes = sorted({match["prefix"] or "" for match in matches if match})
    if len(prefixes) == 1:
        return f"{prefixes[0]}/" if prefixes[0] else ""
    if len(prefixes) > 1:
        shown = ", ".join(prefix or "." for prefix in prefixes[:3])
        raise InputError(f"{listing.root} holds {len(prefixes)} datasets ({shown}, ...); expected the folder of one")
    raise InputError(
        f"no files in {listing.root / folder}; expected the dataset's folder with {folder}/ and labelsTr/ in it"
    )


def strip_ending(path: str, ending: str = "") -> str:
    """Return a file's name without folder and ending.

    Example:
        >>> strip_ending("imagesTr/hippocampus_001.nii.gz")
        'hippocampus_001'
    """
    name = PurePosixPath(path).name
    ending = ending or find_ending(name)
    return name[: len(name) - len(ending)] if ending else name


def read_description(listing: Listing, prefix: str) -> dict[str, Any] | None:
    """Return the content of ``dataset.json``, None if there is none.

    Raises:
        InputError: it is not a JSON object.
    """
    path = f"{prefix}dataset.json"
    if path not in listing.files:
        return None
    content = read_json(listing.root / path)
    if not isinstance(content, dict):
        raise InputError(f"{listing.root / path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: it cannot be read, with the place.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None


def read_labels(table: Any, where: str) -> dict[int, str]:
    """Return the name of each label id from either spelling of ``dataset.json``.

    Args:
        table: ``{"0": "background", "1": "tumour"}`` (Decathlon, nnU-Net v1) or ``{"background": 0, ...}`` (v2).
        where: the file, for the message.

    Raises:
        InputError: neither, or labels that overlap (nnU-Net's regions).

    Example:
        >>> read_labels({"background": 0, "tumour": 1}, "dataset.json")
        {0: 'background', 1: 'tumour'}
    """
    if not isinstance(table, Mapping) or not table:
        raise InputError(f"{where}: expected labels as in {{'0': 'background', '1': 'tumour'}}, got {table!r:.60}")
    labels: dict[int, str] = {}
    for key, value in table.items():
        if isinstance(value, list | tuple):
            raise InputError(
                f"{where}: {key!r} is a region of several labels ({value}), which overlap; a manifest has one label a"
                " voxel: name the values of the masks, --labels 0=background,1=...,2=..."
            )
        # Names may be numbers too, so the side that is an integer in JSON wins.
        number, name = (value, key) if _is_id(value) else (key, value)
        if not re.fullmatch(r"\d+", str(number)) or not isinstance(name, str):
            raise InputError(f"{where}: the label {key!r}: {value!r} is no pair of a name and a number")
        if int(number) in labels:
            raise InputError(f"{where}: the label {int(number)} has two names, {labels[int(number)]!r} and {name!r}")
        labels[int(number)] = name
    return dict(sorted(labels.items()))


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def parse_labels(text: str) -> dict[int, str]:
    """Return the name of each label id from the option ``--labels``.

    Raises:
        InputError: it is not ``0=background,1=...``.

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
    """Return the labels that the masks hold, with numbers for names; masks that cannot be read are left to the builder.

    Args:
        listing: the folder.
        masks: the files; those that are not on disk are skipped.
    """
    from pipeline.datasets.digests import map_threads

    def read(mask: str) -> set[int]:
        try:
            probe = probe_image(Source(listing.root / mask), decode=True, is_mask=True)
        except (ImageError, OSError):
            return set()
        return {int(value) for value in probe.content.counts if not value % 1} if probe.content else set()

    there = set(listing.files)
    found = {0}.union(*map_threads(read, [mask for mask in masks if mask in there]))
    return {number: "background" if number == 0 else f"label {number}" for number in sorted(found)}


def name_channels(table: Any, where: str) -> tuple[str, ...]:
    """Return the names of the channels from ``modality`` or ``channel_names``: ``{"0": "T1", "1": "FLAIR"}``.

    Raises:
        InputError: it is no such table, or the numbers are not 0, 1, 2, ...
    """
    if isinstance(table, Mapping) and table and sorted(table) == sorted(str(i) for i in range(len(table))):
        return tuple(str(table[str(index)]) for index in range(len(table)))
    raise InputError(f"{where}: expected channels as in {{'0': 'T1', '1': 'FLAIR'}}, got {table!r:.60}")


def count_channels(listing: Listing, image: str) -> int:
    """Return the number of channels in an image file's header, 1 if it cannot be read."""
    try:
        return probe_image(Source(listing.root / image), decode=False, is_mask=False).channels
    except (ImageError, OSError):
        return 1
