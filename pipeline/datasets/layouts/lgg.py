"""LGG brain MRI as downloaded from Kaggle: ``kaggle_3m/<patient>/<patient>_<k>.tif`` and ``..._<k>_mask.tif``."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from pipeline.datasets.layouts.listing import Listing, ManifestDraft, note_names
from pipeline.datasets.layouts.naming import start_manifest
from pipeline.datasets.manifests.manifest import Case
from pipeline.datasets.ordering import slice_key
from pipeline.issues import InputError

SOURCE = "https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation"
_DATASET = start_manifest(
    "lgg",
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
)
_SLICE = re.compile(r"^(?P<stem>.+_\d+?)(?P<mask>_mask)?\.tiff?$", re.IGNORECASE)
_DATED = re.compile(r"^(?P<subject>.+)_\d{8}$")


def read(listing: Listing) -> ManifestDraft:
    """Read the folder ``kaggle_3m``.

    A case is a patient: the stack of its slices in order of their numbers. Patients that only the published checksums
    list become cases too, without tumour size, so a manifest can hold a test set that is not on this disk. All cases
    are ``"train"``, without folds.

    Raises:
        InputError: no patients, or a slice without its mask.
    """
    patients: dict[str, list[str]] = defaultdict(list)
    others = []
    for name in listing.known():
        path = PurePosixPath(name)
        if len(path.parts) == 2 and _SLICE.match(path.name):
            patients[path.parts[0]].append(name)
        elif name not in listing.absent and path.name != "data.csv":
            others.append(name)
    if not patients:
        question = f"is this the folder kaggle_3m of {SOURCE}?"
        raise InputError(f"no slices like <patient>/<patient>_1.tif under {listing.root}; {question}")
    cases = tuple(_case(name, patients[name]) for name in sorted(patients))
    return ManifestDraft(replace(_DATASET, cases=cases), note_names("unmatched-file", "belong to no patient", others))


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


def _case(name: str, files: list[str]) -> Case:
    image, label = _pair(name, files)
    dated = _DATED.match(name)
    parts = name.split("_")
    return Case(
        case_id=name,
        subject=dated["subject"] if dated else name,
        image=image,
        label=label,
        facts={"group": parts[1] if len(parts) > 2 else None},
    )
