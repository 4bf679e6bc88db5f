"""ISIC skin lesions, the segmentation task of 2016, 2017 and 2018: ``ISIC_*.jpg`` and ``ISIC_*_segmentation.png``.

Official folders, side by side, as unpacked::

    ISBI2016_ISIC_Part1_{Training,Test}_Data               ISBI2016_ISIC_Part1_{Training,Test}_GroundTruth
    ISIC-2017_{Training,Validation,Test_v2}_Data           ISIC-2017_{Training,Validation,Test_v2}_Part1_GroundTruth
    ISIC2018_Task1-2_{Training,Validation,Test}_Input      ISIC2018_Task1_{Training,Validation,Test}_GroundTruth

Nested folders (``..._Input/..._Input/ISIC_*.jpg``) and short names (``ISIC2017_Input``) work too: the names of the
files distinguish images and masks, words in the names of the folders give year and split.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipeline.datasets.layouts import naming
from pipeline.datasets.layouts.listing import Listing, ManifestDraft, note_names
from pipeline.datasets.manifests.manifest import SPLITS, Case, Manifest, Split
from pipeline.issues import InputError, Issue

SOURCE = "https://challenge.isic-archive.com/data/"
# Licence of images and masks, and the organisers' papers, by year.
TERMS: dict[str, tuple[str, ...]] = {
    "2016": (
        "CC0 1.0",
        "Gutman et al.: Skin Lesion Analysis toward Melanoma Detection: A Challenge at the International Symposium on"
        " Biomedical Imaging (ISBI) 2016, hosted by the International Skin Imaging Collaboration (ISIC)."
        " arXiv:1605.01397, 2016.",
    ),
    "2017": (
        "CC0 1.0",
        "Codella et al.: Skin Lesion Analysis Toward Melanoma Detection: A Challenge at the 2017 International"
        " Symposium on Biomedical Imaging (ISBI), Hosted by the International Skin Imaging Collaboration (ISIC)."
        " arXiv:1710.05006, 2017.",
    ),
    "2018": (
        "CC BY-NC 4.0",
        "Codella et al.: Skin Lesion Analysis Toward Melanoma Detection 2018: A Challenge Hosted by the"
        " International Skin Imaging Collaboration (ISIC). arXiv:1902.03368, 2019.",
        "Tschandl, Rosendahl, Kittler: The HAM10000 dataset, a large collection of multi-source dermatoscopic"
        " images of common pigmented skin lesions. Scientific Data 5, 180161, 2018.",
    ),
}
_UNKNOWN_TERMS = ("given for each image in the ISIC Archive: CC0, CC BY or CC BY-NC",)
_DATASET = naming.start_manifest(
    "isic",
    source=SOURCE,
    labels={0: "background", 1: "lesion"},
    mask_values={0: 0, 255: 1},
    channels=("red", "green", "blue"),
)
_FILE = re.compile(r"(?P<id>ISIC_\d+)(?:\.jpe?g|(?P<mask>_segmentation\.png))", re.IGNORECASE)
# Part 2 and 3 and tasks 2 and 3 are other challenges, some with the same images; Task1-2 is ours.
_OTHER_TASK = re.compile(r"(?:^|[_-])(?:part|task)[23]b?(?:[_-]|$)", re.IGNORECASE)
_YEAR = re.compile(r"(?:ISIC|ISBI)[-_ ]*(?P<year>20\d\d)", re.IGNORECASE)
_SPLIT_WORD = re.compile(r"(?<![a-z])(?P<word>train|val|test)(?:ing|idation|id)?(?![a-z])", re.IGNORECASE)
_EXTRAS = re.compile(r"(?:.*_superpixels\.png|attribution\.txt|license\.txt|.*\.csv)", re.IGNORECASE)

Key = tuple[Split, str]


def read(listing: Listing, *, unpaired: str = "refuse") -> ManifestDraft:
    """Read the folder that holds a year's official folders.

    A case is an image. The official split is kept; images outside of it are ``"train"``. A part without any mask, such
    as a test set before its masks were published, becomes cases without label. The subjects are unknown, because the
    patients are not published.

    Args:
        listing: the folder.
        unpaired: ``"refuse"``, or ``"drop"`` to leave out images without mask where others have one, and masks without
            image.

    Returns:
        The draft; its notes count the files that were left out.

    Raises:
        InputError: no such images, images of two years, an image that occurs twice, or unpaired files.
    """
    naming.require_choice("unpaired", unpaired, ("refuse", "drop"))
    images: dict[Key, str] = {}
    masks: dict[Key, str] = {}
    extras: list[str] = []
    others: list[str] = []
    absent = set(listing.absent)
    for path in listing.known():
        *folders, name = path.split("/")
        match, is_foreign = _FILE.fullmatch(name), any(map(_OTHER_TASK.search, folders))
        if match and not is_foreign:
            _add(masks if match["mask"] else images, (_find_split(folders), match["id"]), path)
        elif path not in absent:
            (extras if is_foreign or _EXTRAS.fullmatch(name) else others).append(path)
    if not images:
        expected = "expected ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg or the like"
        raise InputError(f"no images like ISIC_0000000.jpg under {listing.root}; {expected}, from {SOURCE}")
    cases, notes = _pair(listing, images, masks, unpaired)
    what = "are superpixels, terms, tables or of another task, and were ignored"
    notes += (*note_names("ignored-file", what, extras), *note_names("unmatched-file", "belong to no image", others))
    return ManifestDraft(replace(_describe_year(listing, images.values()), cases=cases), tuple(notes))


def _find_split(folders: Iterable[str]) -> Split:
    """Return the split that the innermost folder with such a word names; the word may be cut (``Train``, ``val``)."""
    for folder in reversed(list(folders)):
        match = _SPLIT_WORD.search(folder)
        if match:
            return naming.SPLIT_NAMES[match["word"].lower()]
    return "train"


def _add(table: dict[Key, str], key: Key, path: str) -> None:
    if key in table:
        hint = "two copies or two releases lie in one folder; keep one"
        raise InputError(f"{key[1]} occurs twice as {key[0]}: {table[key]} and {path}; {hint}")
    table[key] = path


def _pair(
    listing: Listing, images: Mapping[Key, str], masks: Mapping[Key, str], unpaired: str
) -> tuple[tuple[Case, ...], list[Issue]]:
    """Return the cases, split by split in order of their ids, and notes about them."""
    segmented = {split for split, _ in masks}
    lonely = {key: path for key, path in images.items() if key not in masks and key[0] in segmented}
    orphans = [path for key, path in masks.items() if key not in images]
    hint = "unpack the archives again, or leave them out with --unpaired drop"
    notes = naming.note_unpaired(listing, list(lonely.values()), orphans, unpaired, hint)
    ordered = sorted(images.keys() - lonely, key=lambda key: (SPLITS.index(key[0]), key[1]))
    copies = sorted(name for name, number in Counter(name for _, name in ordered).items() if number > 1)
    if copies:
        message = f"{len(copies)} images are in two splits, for example {copies[0]}"
        raise InputError(f"{listing.root}: {message}; keep one copy of each")
    notes += naming.note_unlabelled([split for split, _ in ordered], segmented)
    if not any(map(_SPLIT_WORD.search, images.values())):
        notes.append(naming.note_no_splits("folder is named Training, Validation or Test"))
    labels = {key: (masks[key],) if key in masks else None for key in ordered}
    return tuple(Case(key[1], "", (images[key],), labels[key], key[0]) for key in ordered), notes


def _describe_year(listing: Listing, paths: Iterable[str]) -> Manifest:
    """Return the manifest's head with the terms of the year that the folders name."""
    parents = {path.rpartition("/")[0] for path in paths}
    years = {match["year"] for parent in parents for match in _YEAR.finditer(parent)}
    years = years or {match["year"] for match in _YEAR.finditer(listing.root.resolve().name)}
    if len(years) > 1:
        shown = " and ".join(sorted(years))
        raise InputError(f"{listing.root} holds ISIC {shown}, which share images; build each year from its own folder")
    year = next(iter(years), "")
    licence, *citations = TERMS.get(year, _UNKNOWN_TERMS)
    return replace(_DATASET, name=f"isic{year}", licence=licence, citations=tuple(citations))
