"""LGG brain MRI as downloaded from Kaggle: ``kaggle_3m/<patient>/<patient>_<k>.tif`` and ``..._<k>_mask.tif``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.datasets.digests import compute_sha256, map_threads
from pipeline.datasets.manifest import Case, Manifest
from pipeline.datasets.ordering import slice_key
from pipeline.issues import InputError

SOURCE = "https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation"
SLICE_SHAPE = (256, 256)
_DATASET = Manifest(
    name="lgg",
    layout="lgg",
    task="segmentation",
    licence="CC BY-NC-SA 4.0 (Kaggle page); CC BY 3.0 (TCIA source)",
    source=SOURCE,
    citations=(
        "Buda, Saha, Mazurowski: Association of genomic subtypes of lower-grade gliomas with shape features"
        " automatically extracted by a deep learning algorithm. Computers in Biology and Medicine, 2019.",
        "Mazurowski et al.: Radiogenomics of lower-grade glioma: algorithmically-assessed tumor shape is associated"
        " with tumor genomic subtypes and patient outcomes in a multi-institutional study with The Cancer Genome"
        " Atlas data. Journal of Neuro-Oncology, 2017.",
    ),
    labels={0: "background", 1: "tumour"},
    mask_values={0: 0, 255: 1},
    channels=("pre-contrast", "FLAIR", "post-contrast"),
    cases=(),
)
_SLICE = re.compile(r"^(?P<stem>.+_\d+?)(?P<mask>_mask)?\.tiff?$", re.IGNORECASE)
_DATED = re.compile(r"^(?P<subject>.+)_\d{8}$")


def read(root: Path, *, checksums: Mapping[str, str] | None = None) -> Manifest:
    """Read the folder ``kaggle_3m``.

    A case is a patient: the stack of its slices in order of their numbers. Patients that are named by ``checksums``
    alone become cases too, their tumour size unknown; so a manifest can hold a test set that is not on this disk.

    Args:
        root: the folder that holds the patients' folders.
        checksums: published digests by path relative to ``root``.

    Returns:
        The manifest, all cases ``"train"`` and without folds; digests of all files.

    Raises:
        InputError: no patients; a slice without its mask; a file that differs from its published digest or is not in
            the list; a file that is no image.
    """
    published = dict(checksums or {})
    on_disk = _list_slices(root)
    names = set(on_disk) | {name for name in published if _SLICE.match(PurePosixPath(name).name)}
    patients: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if len(PurePosixPath(name).parts) == 2:
            patients[PurePosixPath(name).parts[0]].append(name)
    if not patients:
        raise InputError(f"no slices like <patient>/<patient>_1.tif under {root}; is this the folder kaggle_3m?")
    digests = _compute_digests(root, sorted(on_disk), published)
    read_patients = sorted({PurePosixPath(name).parts[0] for name in on_disk})
    measured = dict(zip(read_patients, map_threads(lambda p: _measure(root, patients[p]), read_patients), strict=True))
    planes = {tuple(facts["shape"][:2]) for facts in measured.values()}
    plane = planes.pop() if len(planes) == 1 else SLICE_SHAPE
    cases = (_case(name, patients[name], digests, measured.get(name), plane) for name in sorted(patients))
    return replace(_DATASET, cases=tuple(cases))


def _list_slices(root: Path) -> list[str]:
    if not root.is_dir():
        raise InputError(f"no such folder: {root}; expected the folder kaggle_3m of {SOURCE}")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [
        f"{folder.name}/{path.name}"
        for folder in folders
        for path in folder.iterdir()
        if _SLICE.match(path.name) and not path.name.startswith(".")
    ]


def _compute_digests(root: Path, on_disk: list[str], published: Mapping[str, str]) -> dict[str, str]:
    digests = dict(zip(on_disk, map_threads(lambda name: _hash(root / name), on_disk), strict=True))
    for name, digest in digests.items():
        if published and published.get(name) != digest:
            reason = "differs from its published sha256" if name in published else "is not in the list of checksums"
            raise InputError(f"{root / name} {reason}; restore the file, or build without --checksums")
    return {**published, **digests}


def _hash(path: Path) -> str:
    try:
        return compute_sha256(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _pair(patient: str, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Return images and masks in order of slice number."""
    images: dict[str, str] = {}
    masks: dict[str, str] = {}
    for name in names:
        match = _SLICE.match(PurePosixPath(name).name)
        if match:
            (masks if match["mask"] else images)[match["stem"]] = name
    for found, other, kind in ((images, masks, "mask"), (masks, images, "image")):
        lacking = sorted(set(found) - set(other), key=slice_key)
        if lacking and (masks or kind == "image"):
            raise InputError(f"patient {patient}: slice {lacking[0]} has no {kind} ({len(lacking)} such slices)")
    order = sorted(images, key=slice_key)
    return tuple(images[stem] for stem in order), tuple(masks[stem] for stem in order) if masks else None


def _measure(root: Path, names: list[str]) -> dict[str, Any]:
    """Return shape, dtype and foreground of a patient on disk."""
    import numpy as np
    from PIL import Image

    images, masks = _pair(PurePosixPath(names[0]).parts[0], names)
    path = root / images[0]
    foreground = 0
    try:
        with Image.open(path) as first:
            array = np.asarray(first)
        for name in masks or ():
            path = root / name
            with Image.open(path) as mask:
                foreground += int(np.count_nonzero(np.asarray(mask)))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"cannot read the image {path}: {error}") from None
    shape = [*array.shape[:2], len(images)]
    return {"shape": shape, "dtype": array.dtype.name, "foreground": foreground if masks else None}


def _case(
    name: str, files: list[str], digests: Mapping[str, str], measured: Mapping[str, Any] | None, plane: tuple[int, ...]
) -> Case:
    image, label = _pair(name, files)
    known = measured or {"shape": [*plane, len(image)], "dtype": "uint8", "foreground": None}
    dated = _DATED.match(name)
    parts = name.split("_")
    return Case(
        case_id=name,
        subject=dated["subject"] if dated else name,
        image=image,
        label=label,
        sha256={path: digests[path] for path in (*image, *(label or ())) if path in digests},
        facts={
            "shape": known["shape"],
            "dtype": known["dtype"],
            "spacing": None,
            "foreground": known["foreground"],
            "group": parts[1] if len(parts) > 2 else None,
        },
    )
