"""Any images with masks of the same names: ``images/scan 1.png`` and ``masks/scan 1_mask.png``, pictures or NIfTI.

Folders named train, val or test (``train/images/``, ``images/train/``) are the split. Patterns tell other names::

    --image "scans/*.png" --mask "drawn/*_tumour.png" --subject "{subject}_*"
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.datasets.layouts.listing import Draft, Listing, note, note_names
from pipeline.datasets.layouts.mask_values import observe_values, parse_mask_values, propose_mask_values
from pipeline.datasets.layouts.pairing import IMAGE_FOLDERS, MASK_FOLDERS, Context, Entry, describe_unpaired, pair_files
from pipeline.datasets.layouts.patterns import PathPattern, split_ending
from pipeline.datasets.manifests.manifest import Case, Manifest, Split
from pipeline.datasets.probes import ImageError, expected_format, probe_image
from pipeline.issues import InputError, Issue

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SPLITS: tuple[Split, ...] = ("train", "val", "test")
CHANNELS = {1: ("intensity",), 3: ("red", "green", "blue")}
_DATASET = Manifest(
    name="",
    layout="folders",
    task="segmentation",
    licence="not told by the files",
    source="not told by the files",
    labels={},
    mask_values={},
    channels=(),
    cases=(),
)


@dataclass(frozen=True)
class _Files:
    """The files of a dataset by what they are."""

    images: tuple[Entry, ...]
    masks: tuple[Entry, ...]
    others: tuple[str, ...]


def read(
    listing: Listing,
    *,
    image: str | None = None,
    mask: str | None = None,
    subject: str | None = None,
    mask_values: str | None = None,
    binarize: str | None = None,
    unpaired: str = "refuse",
) -> Draft:
    """Read images and masks that are matched by name.

    A case is an image. Without patterns, images lie in a folder ``images`` and masks in ``masks`` or ``labels``, at any
    depth. Images of a split without any mask become cases without label.

    Args:
        listing: the folder.
        image: pattern of the images, see `PathPattern`.
        mask: pattern of the masks; what it matches is no image.
        subject: pattern with ``{subject}``, matched with the end of each image's path: ``"{subject}_*"``,
            ``"{subject}/images/*"``. None: the subjects are unknown.
        mask_values: what the masks' values mean, see `parse_mask_values`. None reads all masks and takes their values
            where only one reading makes sense: 0 and another value, or 0, 1, 2, ...
        binarize: for lossy masks such as JPEG: values from this one on are label 1, the others 0.
        unpaired: what becomes of images without mask where others have one, and of masks without image: ``"refuse"`` or
            ``"drop"``.

    Returns:
        The draft; what was decided is in its notes.

    Raises:
        InputError: no images, unpaired files, masks whose values need an explanation, or a bad option.
    """
    if unpaired not in ("refuse", "drop"):
        raise InputError(f"--unpaired must be one of refuse, drop, got {unpaired!r}")
    files = _sort_files(listing, image, mask)
    pairs = pair_files(files.images, files.masks)
    segmented = {_find_split(entry.path) for entry in files.masks}
    bare = [entry for entry in files.images if entry.path not in pairs and _find_split(entry.path) not in segmented]
    kept = {*pairs, *(entry.path for entry in bare)}
    entries = [entry for entry in files.images if entry.path in kept]
    notes = _note_unpaired(listing, files, pairs, bare, unpaired)
    cases = _make_cases(entries, pairs, _find_subjects(entries, subject))
    meaning, decided = _explain_values(listing, sorted(pairs.values()), mask_values, binarize)
    volumes = expected_format(cases[0].image[0]) == "NIfTI"
    manifest = replace(
        _DATASET,
        name=re.sub(r"[^\w.-]+", "_", listing.root.resolve().name) or "folders",
        channels=_read_channels(listing, cases),
        spacing_policy="header" if volumes else "none",
        cases=cases,
        **meaning,
    )
    told = (*notes, *decided, *_note_choices(cases, files, subject))
    return Draft(manifest, (*told, *note_names("unmatched-file", "are neither image nor mask", files.others)))


def _sort_files(listing: Listing, image: str | None, mask: str | None) -> _Files:
    image_pattern = PathPattern(image, "image") if image else None
    mask_pattern = PathPattern(mask, "mask") if mask else None
    images, masks, others = [], [], []
    absent = set(listing.absent)
    for path in listing.known():
        as_image, as_mask = (
            _find_entry(path, image_pattern, is_mask=False),
            _find_entry(path, mask_pattern, is_mask=True),
        )
        # A pattern of the user wins over the name of a folder; a mask's, which says more, over an image's.
        if as_mask and (mask_pattern or not (as_image and image_pattern)):
            masks.append(as_mask)
        elif as_image:
            images.append(as_image)
        elif path not in absent:
            others.append(path)
    if not images:
        looked = f"match {image!r}" if image else "lie in a folder images/"
        expected = "expected images/ and masks/ (or labels/), or patterns: --image 'scans/*.png' --mask 'drawn/*.png'"
        raise InputError(f"no pictures or NIfTI volumes under {listing.root} {looked}; {expected}")
    if mask and not masks:
        raise InputError(
            f"no pictures or NIfTI volumes under {listing.root} match --mask {mask!r}; leave it out for none"
        )
    return _Files(tuple(images), tuple(masks), tuple(others))


def _find_entry(path: str, pattern: PathPattern | None, *, is_mask: bool) -> Entry | None:
    """Return the file as image or mask, None if it is none: by the pattern, or by the innermost telling folder."""
    if expected_format(path) in ("", "DICOM"):
        return None
    if pattern:
        found = pattern.match(path)
        return Entry(path, _drop_roles(found[0]), found[1], is_mask) if found else None
    *folders, name = split_ending(path)[0].split("/")
    roles = [folder.casefold() for folder in folders if folder.casefold() in IMAGE_FOLDERS | MASK_FOLDERS]
    if not roles or (roles[-1] in MASK_FOLDERS) != is_mask:
        return None
    return Entry(path, _drop_roles(folders), name, is_mask)


def _drop_roles(folders: Sequence[str]) -> Context:
    return tuple(folder for folder in folders if folder.casefold() not in IMAGE_FOLDERS | MASK_FOLDERS)


def _note_unpaired(
    listing: Listing, files: _Files, pairs: Mapping[str, str], bare: Sequence[Entry], unpaired: str
) -> list[Issue]:
    """Refuse files without counterpart, or say that they are left out; ``bare`` are of parts without any mask."""
    paired = {*pairs, *pairs.values(), *(entry.path for entry in bare)}
    lonely, orphans = ([e.path for e in entries if e.path not in paired] for entries in (files.images, files.masks))
    problems = describe_unpaired(lonely, orphans)
    if problems and (unpaired == "refuse" or not pairs):
        hint = "say which files belong together with --image and --mask" + (", or --unpaired drop" if pairs else "")
        raise InputError(f"{listing.root}: {'; '.join(problems)}; {hint}")
    notes = [note("unpaired-file", f"{problem}; left out") for problem in problems]
    counts = Counter(_find_split(entry.path) for entry in bare)
    for split in counts if files.masks else ():
        message = f"none of the {counts[split]} images of {split} has a mask; they are cases without label"
        notes.append(note("no-masks", message))
    if not files.masks:
        notes.append(note("no-masks", f"no masks: the {len(files.images)} images are cases without label"))
    return notes


def _find_subjects(entries: Sequence[Entry], subject: str | None) -> dict[str, str]:
    """Return the subject of each image, "" without pattern."""
    if not subject:
        return {}
    if subject.count("{subject}") != 1:
        raise InputError(f"--subject: {subject!r} must hold {{subject}} once, for example '{{subject}}_*'")
    pattern = PathPattern(subject, "subject")
    found = {entry.path: pattern.find_subject(entry.path) for entry in entries}
    missed = [path for path, name in found.items() if name is None]
    if missed:
        message = f"does not fit {len(missed)} of {len(found)} images, for example {missed[0]}"
        raise InputError(f"--subject: {subject!r} {message}; unknown subjects could leak from training into the test")
    return {path: name for path, name in found.items() if name is not None}


def _make_cases(entries: Sequence[Entry], pairs: Mapping[str, str], subjects: Mapping[str, str]) -> tuple[Case, ...]:
    stems = Counter(entry.stem for entry in entries)
    cases = [
        Case(
            case_id=_printable(entry.stem if stems[entry.stem] == 1 else "_".join((*entry.context, entry.stem))),
            subject=_printable(subjects[entry.path]) if subjects else "",
            image=(entry.path,),
            label=(pairs[entry.path],) if entry.path in pairs else None,
            split=_find_split(entry.path),
        )
        for entry in entries
    ]
    owners: dict[str, str] = {}
    for case in cases:
        if owners.setdefault(case.case_id, case.image[0]) != case.image[0]:
            both = f"{owners[case.case_id]} and {case.image[0]}"
            raise InputError(f"both {both} would be the case {case.case_id!r}; rename one, or choose with --image")
    return tuple(sorted(cases, key=lambda case: (SPLITS.index(case.split), case.image)))


def _printable(name: str) -> str:
    """Return a file's name as a manifest takes it: ids name folders and are shown on screens."""
    return "".join(character if character.isprintable() else "_" for character in name) if name.strip() else "_"


def _find_split(path: str) -> Split:
    """Return the split that the innermost folder with such a name says."""
    folders = [folder.casefold() for folder in path.split("/")[:-1]]
    return next((SPLIT_NAMES[folder] for folder in reversed(folders) if folder in SPLIT_NAMES), "train")


def _explain_values(
    listing: Listing, masks: Sequence[str], mask_values: str | None, binarize: str | None
) -> tuple[dict[str, Any], list[Issue]]:
    """Return the manifest's fields about masks, and what was decided."""
    if binarize and mask_values:
        raise InputError("--binarize and --mask-values exclude each other; masks with a threshold have two labels")
    if binarize:
        if not re.fullmatch(r"\d+(\.\d+)?", binarize):
            raise InputError(f"--binarize expects a number such as 128, got {binarize!r}")
        return {**parse_mask_values("0,255"), "binarize": float(binarize)}, []
    lossy = [path for path in masks if expected_format(path) == "JPEG"]
    if lossy:
        message = f"{len(lossy)} masks are JPEG, whose values are not the ones that were drawn, for example {lossy[0]}"
        raise InputError(f"{listing.root}: {message}; --binarize 128 takes values from 128 on as label")
    if mask_values:
        return parse_mask_values(mask_values), []
    there = set(listing.files)
    found = observe_values(listing.root, [path for path in masks if path in there])
    if not found:
        return parse_mask_values("0,1"), []
    try:
        text = propose_mask_values(found)
    except InputError as error:
        raise InputError(f"{listing.root}: {error}") from None
    meaning = parse_mask_values(text)
    names = ", ".join(f"{value} = {meaning['labels'][label]}" for value, label in meaning["mask_values"].items())
    return meaning, [note("mask-values", f"read off all masks: {names}", hint="--mask-values names them otherwise")]


def _read_channels(listing: Listing, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the channels of the first image on disk; the checks compare the others with it."""
    there = set(listing.files)
    first = next((case.image[0] for case in cases if case.image[0] in there), None)
    try:
        number = probe_image(listing.root / first, decode=False, is_mask=False).channels if first else 0
    except ImageError:
        return ()  # told with all other broken files, when they are read
    return CHANNELS.get(number, tuple(f"channel {index + 1}" for index in range(number)))


def _note_choices(cases: Sequence[Case], files: _Files, subject: str | None) -> Iterator[Issue]:
    if not any(folder.casefold() in SPLIT_NAMES for case in cases for folder in case.image[0].split("/")[:-1]):
        hint = "python -m pipeline dataset split MANIFEST deals them out"
        yield note("split", "no folder is named train, val or test; all cases are train", hint=hint)
    if subject:
        number = len({case.subject_key() for case in cases})
        example = f"{cases[0].image[0]} is of {cases[0].subject!r}"
        yield note("subjects", f"{len(cases)} images of {number} subjects: {example}")
