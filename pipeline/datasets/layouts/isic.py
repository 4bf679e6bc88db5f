"""ISIC skin lesions, the segmentation task of 2016, 2017 and 2018: ``ISIC_*.jpg`` and ``ISIC_*_segmentation.png``.

Official folders, side by side, as unpacked::

    ISBI2016_ISIC_Part1_{Training,Test}_Data               ISBI2016_ISIC_Part1_{Training,Test}_GroundTruth
    ISIC-2017_{Training,Validation,Test_v2}_Data           ISIC-2017_{Training,Validation,Test_v2}_Part1_GroundTruth
    ISIC2018_Task1-2_{Training,Validation,Test}_Input      ISIC2018_Task1_{Training,Validation,Test}_GroundTruth

Folders within folders do (``..._Input/..._Input/ISIC_*.jpg``), and so do short names (``ISIC2017_Input``): images and
masks are told by the names of the files, year and split by the words in the names of the folders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.datasets.layouts.listing import Draft, Listing, note, note_names
from pipeline.datasets.layouts.pairing import describe_unpaired
from pipeline.datasets.manifests.manifest import Case, Manifest, Split
from pipeline.issues import InputError, Issue

SOURCE = "https://challenge.isic-archive.com/data/"
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Year:
    """One challenge's terms.

    Args:
        licence: licence of images and masks.
        citations: what its organisers ask to cite.
    """

    licence: str
    citations: tuple[str, ...]


YEARS: dict[str, Year] = {
    "2016": Year(
        "CC0 1.0",
        (
            "Gutman et al.: Skin Lesion Analysis toward Melanoma Detection: A Challenge at the International Symposium"
            " on Biomedical Imaging (ISBI) 2016, hosted by the International Skin Imaging Collaboration (ISIC)."
            " arXiv:1605.01397, 2016.",
        ),
    ),
    "2017": Year(
        "CC0 1.0",
        (
            "Codella et al.: Skin Lesion Analysis Toward Melanoma Detection: A Challenge at the 2017 International"
            " Symposium on Biomedical Imaging (ISBI), Hosted by the International Skin Imaging Collaboration (ISIC)."
            " arXiv:1710.05006, 2017.",
        ),
    ),
    "2018": Year(
        "CC BY-NC 4.0",
        (
            "Codella et al.: Skin Lesion Analysis Toward Melanoma Detection 2018: A Challenge Hosted by the"
            " International Skin Imaging Collaboration (ISIC). arXiv:1902.03368, 2019.",
            "Tschandl, Rosendahl, Kittler: The HAM10000 dataset, a large collection of multi-source dermatoscopic"
            " images of common pigmented skin lesions. Scientific Data 5, 180161, 2018.",
        ),
    ),
}
_UNKNOWN_YEAR = Year("told by each image in the ISIC Archive: CC0, CC BY or CC BY-NC", ())
_DATASET = Manifest(
    name="isic",
    layout="isic",
    task="segmentation",
    licence="",
    source=SOURCE,
    labels={0: "background", 1: "lesion"},
    mask_values={0: 0, 255: 1},
    channels=("red", "green", "blue"),
    cases=(),
)
_FILE = re.compile(r"(?P<id>ISIC_\d+)(?:\.jpe?g|(?P<mask>_segmentation\.png))", re.IGNORECASE)
# Part 2 and 3 and tasks 2 and 3 are other challenges, some with the same images; Task1-2 is ours.
_OTHER_TASK = re.compile(r"(?:^|[_-])(?:part|task)[23]b?(?:[_-]|$)", re.IGNORECASE)
_YEAR = re.compile(r"(?:ISIC|ISBI)[-_ ]*(?P<year>20\d\d)", re.IGNORECASE)
_SPLIT_WORD = re.compile(r"(?<![a-z])(?P<word>train|val|test)(?:ing|idation|id)?(?![a-z])", re.IGNORECASE)
_EXTRAS = re.compile(r"(?:.*_superpixels\.png|attribution\.txt|license\.txt|.*\.csv)", re.IGNORECASE)

Key = tuple[Split, str]


def read(listing: Listing, *, unpaired: str = "refuse") -> Draft:
    """Read the folder that holds a year's official folders.

    A case is an image. The official split is kept; images outside of it are ``"train"``. A part without any mask, such
    as a test set before its masks were published, becomes cases without label.

    Args:
        listing: the folder.
        unpaired: what becomes of an image without mask where others have one, and of a mask without image:
            ``"refuse"`` or ``"drop"``, which leaves them out and says so.

    Returns:
        The draft; nobody knows the patients, so the subjects are unknown.

    Raises:
        InputError: no such images, images of two years, an image that is there twice, or unpaired files.
    """
    if unpaired not in ("refuse", "drop"):
        raise InputError(f"--unpaired must be one of refuse, drop, got {unpaired!r}")
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
    head = _describe_year(listing, images.values())
    what = "are superpixels, terms, tables or of another task, and were ignored"
    ignored = (*note_names("ignored-file", what, extras), *note_names("unmatched-file", "belong to no image", others))
    return Draft(replace(head, cases=cases), (*notes, *ignored))


def _find_split(folders: Iterable[str]) -> Split:
    """Return the split that the innermost folder with such a word names; the word may be cut (``Train``, ``val``)."""
    for folder in reversed(list(folders)):
        match = _SPLIT_WORD.search(folder)
        if match:
            return next(split for split in SPLITS if split == match["word"].lower())
    return "train"


def _add(table: dict[Key, str], key: Key, path: str) -> None:
    if key in table:
        hint = "two copies or two releases lie in one folder; keep one"
        raise InputError(f"{key[1]} is there twice as {key[0]}: {table[key]} and {path}; {hint}")
    table[key] = path


def _pair(
    listing: Listing, images: Mapping[Key, str], masks: Mapping[Key, str], unpaired: str
) -> tuple[tuple[Case, ...], list[Issue]]:
    """Return the cases, split by split in order of their ids, and what is to be said about them."""
    segmented = {split for split, _ in masks}
    lonely = {key: path for key, path in images.items() if key not in masks and key[0] in segmented}
    orphans = [path for key, path in masks.items() if key not in images]
    notes = _note_unpaired(listing, list(lonely.values()), orphans, unpaired)
    ordered = sorted((key for key in images if key not in lonely), key=lambda key: (SPLITS.index(key[0]), key[1]))
    copies = sorted(name for name, number in Counter(name for _, name in ordered).items() if number > 1)
    if copies:
        message = f"{len(copies)} images are in two splits, for example {copies[0]}"
        raise InputError(f"{listing.root}: {message}; keep one copy of each")
    cases = (
        Case(
            case_id=key[1],
            subject="",
            image=(images[key],),
            label=(masks[key],) if key in masks else None,
            split=key[0],
        )
        for key in ordered
    )
    return tuple(cases), [*notes, *_note_splits(ordered, segmented, images.values())]


def _note_unpaired(listing: Listing, images: Sequence[str], masks: Sequence[str], unpaired: str) -> list[Issue]:
    problems = describe_unpaired(images, masks)
    if problems and unpaired == "refuse":
        hint = "unpack the archives again, or leave them out with --unpaired drop"
        raise InputError(f"{listing.root}: {'; '.join(problems)}; {hint}")
    return [note("unpaired-file", f"{problem}; left out") for problem in problems]


def _note_splits(keys: Sequence[Key], segmented: Container[str], paths: Iterable[str]) -> Iterator[Issue]:
    numbers = Counter(split for split, _ in keys)
    for split in SPLITS:
        if numbers[split] and split not in segmented:
            message = f"none of the {numbers[split]} images of {split} has a mask; they are cases without label"
            yield note("no-masks", message)
    if not any(map(_SPLIT_WORD.search, paths)):
        hint = "python -m pipeline dataset split MANIFEST deals them out"
        yield note("split", "no folder is named Training, Validation or Test; all cases are train", hint=hint)


def _describe_year(listing: Listing, paths: Iterable[str]) -> Manifest:
    """Return the manifest's head with the terms of the year that the folders name."""
    parents = {path.rpartition("/")[0] for path in paths}
    years = {match["year"] for parent in parents for match in _YEAR.finditer(parent)}
    years = years or {match["year"] for match in _YEAR.finditer(listing.root.resolve().name)}
    if len(years) > 1:
        shown = " and ".join(sorted(years))
        raise InputError(f"{listing.root} holds ISIC {shown}, which share images; build each year from its own folder")
    year = next(iter(years), "")
    terms = YEARS.get(year, _UNKNOWN_YEAR)
    return replace(_DATASET, name=f"isic{year}", licence=terms.licence, citations=terms.citations)
