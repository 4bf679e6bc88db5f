"""Any images with masks of the same names: ``images/scan 1.png`` and ``masks/scan 1_mask.png``, 2-D files or volumes.

Folders named train, val or test (``train/images/``, ``images/train/``) give the split. Patterns describe other names::

    --image "scans/*.png" --mask "drawn/*_tumour.png" --subject "{subject}_*"
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from pipeline.datasets.layouts import naming
from pipeline.datasets.layouts.listing import Listing, ManifestDraft, note, note_names
from pipeline.datasets.layouts.mask_values import explain_masks
from pipeline.datasets.layouts.pairing import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    Context,
    NamedFile,
    find_further_masks,
    pair_files,
)
from pipeline.datasets.layouts.patterns import PathPattern, split_ending
from pipeline.datasets.manifests.manifest import Case, Split
from pipeline.datasets.probes import VOLUMES, expected_format
from pipeline.issues import InputError, Issue

_VOLUME_AXES = 3
_UNKNOWN = "not given by the files"
_DATASET = naming.start_manifest("folders", licence=_UNKNOWN, source=_UNKNOWN)


@dataclass(frozen=True)
class _Files:
    """The files of a dataset by role."""

    images: tuple[NamedFile, ...]
    masks: tuple[NamedFile, ...]
    others: tuple[str, ...]


def read(
    listing: Listing,
    *,
    image: str | None = None,
    mask: str | None = None,
    subject: str | None = None,
    mask_values: str | None = None,
    binarize: str | None = None,
    channels: str | None = None,
    unpaired: str = "refuse",
) -> ManifestDraft:
    """Read images and masks that are matched by name.

    A case is an image. Without patterns, images lie in a folder ``images`` and masks in ``masks`` or ``labels``, at any
    depth. Images of a split without any mask become cases without label. Masks ``x_mask_1.png``, ``x_mask_2.png``
    beside ``x_mask.png`` are further masks of the same picture, whatever the patterns match: the union counts.

    Args:
        listing: the folder.
        image: pattern of the images, see `PathPattern`.
        mask: pattern of the masks; a file that it matches is not an image.
        subject: pattern with ``{subject}``, matched with the end of each image's path: ``"{subject}_*"``,
            ``"{subject}/images/*"``. None: the subjects are unknown.
        mask_values: meaning of the masks' values, see `parse_mask_values`. None reads all masks and takes their values
            if they are clear: 0 and another value, or 0, 1, 2, ...
        binarize: for lossy masks such as JPEG: values from this one on are label 1, the others 0.
        channels: names of the channels, or their number; None takes them from the first image, which must then not
            have a fourth axis, which may be time.
        unpaired: ``"refuse"``, or ``"drop"`` to leave out images without mask where others have one, and masks without
            image.

    Returns:
        The draft; its notes say what was decided.

    Raises:
        InputError: no images, unpaired files, masks whose values need an explanation, or a bad option.
    """
    naming.require_choice("unpaired", unpaired, ("refuse", "drop"))
    files = _sort_files(listing, image, mask)
    pairs = pair_files(files.images, files.masks)
    further, files = _take_further(listing, files, pairs)
    kept, notes = _drop_unpaired(listing, files, pairs, unpaired)
    labels = {path: (first, *further.get(path, ())) for path, first in pairs.items()}
    cases = _make_cases(kept, labels, _find_subjects(kept, subject))
    meaning, decided = explain_masks(listing, sorted(chain.from_iterable(labels.values())), mask_values, binarize)
    _require_one_label(listing, meaning, further)
    manifest = replace(
        _DATASET,
        name=naming.name_dataset(listing, "folders"),
        channels=_name_channels(listing, cases, channels),
        spacing_policy="header" if expected_format(cases[0].image[0]) in VOLUMES else "none",
        cases=cases,
        **meaning,
    )
    others = note_names("unmatched-file", "are neither image nor mask", files.others)
    notes += (*decided, *_note_further(further), *_note_choices(cases, subject), *others)
    return ManifestDraft(manifest, tuple(notes), declared=bool(mask_values or binarize))


def _name_channels(listing: Listing, cases: Sequence[Case], channels: str | None) -> tuple[str, ...]:
    """Return the names given, or those of the first image's channels."""
    first = naming.probe_first(listing, [case.image[0] for case in cases])
    number = first.channels if first else 0
    if channels is None:
        if first and first.header.get("ndim", 0) > _VOLUME_AXES:
            hint = f"save one file per volume if they are time points; if they are channels: --channels {number}"
            raise InputError(f"{listing.root / cases[0].image[0]}: the fourth axis has {number} volumes; {hint}")
        return naming.CHANNELS.get(number, tuple(f"channel {index + 1}" for index in range(number)))
    names = tuple(name.strip() for name in channels.split(","))
    if channels.strip().isdecimal():
        names = tuple(f"channel {index + 1}" for index in range(int(channels)))
    if not all(names) or len(set(names)) < len(names) or (first and len(names) != number):
        expected = f"{number} different names, or their number: --channels {number}"
        raise InputError(f"--channels: the images have {number} channels, got {channels!r}; expected {expected}")
    return names


def _sort_files(listing: Listing, image: str | None, mask: str | None) -> _Files:
    image_pattern = PathPattern(image, "image") if image else None
    mask_pattern = PathPattern(mask, "mask") if mask else None
    images, masks, others = [], [], []
    absent = set(listing.absent)
    for path in listing.known():
        as_image = _find_role(path, image_pattern, is_mask=False)
        as_mask = _find_role(path, mask_pattern, is_mask=True)
        # A pattern of the user wins over the name of a folder; the mask's pattern, which is narrower, over the image's.
        if as_mask and (mask_pattern or not (as_image and image_pattern)):
            masks.append(as_mask)
        elif as_image:
            images.append(as_image)
        elif path not in absent:
            others.append(path)
    _require_files(listing, image, mask, has_images=bool(images), has_masks=bool(masks))
    return _Files(tuple(images), tuple(masks), tuple(others))


def _take_further(listing: Listing, files: _Files, pairs: Mapping[str, str]) -> tuple[dict[str, list[str]], _Files]:
    """Return the further masks of each image, and the files without them."""
    paired = {*pairs, *pairs.values()}
    rest = [path for path in listing.known() if path not in paired and expected_format(path) not in ("", "DICOM")]
    further = find_further_masks(pairs, rest)
    taken = {path for paths in further.values() for path in paths}
    for image, paths in further.items():
        if expected_format(image) in VOLUMES:
            message = f"{pairs[image]} and {paths[0]} are masks of one volume, {image}"
            raise InputError(f"{listing.root}: {message}; merge them into one file, which holds all labels")
    return further, _Files(
        tuple(file for file in files.images if file.path not in taken),
        tuple(file for file in files.masks if file.path not in taken),
        tuple(path for path in files.others if path not in taken),
    )


def _require_one_label(listing: Listing, meaning: Mapping[str, Any], further: Mapping[str, Sequence[str]]) -> None:
    """Refuse several masks of a picture unless their union is clear."""
    if further and (len(meaning["labels"]) != 2 or meaning["mask_type"] != "semantic"):
        image, paths = next(iter(further.items()))
        message = f"{image} has several masks, for example {paths[0]}, which can be united only if they hold one label"
        hint = "give their values one name, --mask-values 0,1=lesion,2=lesion, or merge the files into one"
        raise InputError(f"{listing.root}: {message}; {hint}")


def _require_files(listing: Listing, image: str | None, mask: str | None, *, has_images: bool, has_masks: bool) -> None:
    nothing = f"no 2-D images or volumes under {listing.root}"
    if not has_images:
        looked = f"match {image!r}" if image else "lie in a folder images/"
        expected = "expected images/ and masks/ (or labels/), or patterns: --image 'scans/*.png' --mask 'drawn/*.png'"
        raise InputError(f"{nothing} {looked}; {expected}")
    if mask and not has_masks:
        raise InputError(f"{nothing} match --mask {mask!r}; omit --mask if there are no masks")


def _find_role(path: str, pattern: PathPattern | None, *, is_mask: bool) -> NamedFile | None:
    """Return the file if it is an image (or a mask): by the pattern, or by the innermost folder with a known name."""
    if expected_format(path) in ("", "DICOM"):
        return None
    if pattern:
        found = pattern.match(path)
        return NamedFile(path, _drop_roles(found[0]), found[1], is_mask) if found else None
    *folders, name = split_ending(path)[0].split("/")
    roles = [folder.casefold() for folder in folders if folder.casefold() in IMAGE_FOLDERS | MASK_FOLDERS]
    if not roles or (roles[-1] in MASK_FOLDERS) != is_mask:
        return None
    return NamedFile(path, _drop_roles(folders), name, is_mask)


def _drop_roles(folders: Sequence[str]) -> Context:
    return tuple(folder for folder in folders if folder.casefold() not in IMAGE_FOLDERS | MASK_FOLDERS)


def _drop_unpaired(
    listing: Listing, files: _Files, pairs: Mapping[str, str], unpaired: str
) -> tuple[list[NamedFile], list[Issue]]:
    """Return the images that become cases, and notes on the files without partner; splits may have no mask at all."""
    segmented = {_find_split(file.path) for file in files.masks}
    bare = [file for file in files.images if file.path not in pairs and _find_split(file.path) not in segmented]
    paired = {*pairs, *pairs.values(), *(file.path for file in bare)}
    lonely, orphans = ([f.path for f in group if f.path not in paired] for group in (files.images, files.masks))
    hint = "pair the files with --image and --mask" + (", or --unpaired drop" if pairs else "")
    notes = naming.note_unpaired(listing, lonely, orphans, unpaired if pairs else "refuse", hint)
    if files.masks:
        notes += naming.note_unlabelled([_find_split(file.path) for file in bare], segmented)
    else:
        notes.append(note("no-masks", f"no masks: the {len(files.images)} images are cases without label"))
    return [file for file in files.images if file.path in paired], notes


def _find_subjects(images: Sequence[NamedFile], subject: str | None) -> dict[str, str]:
    """Return the subject of each image, {} without pattern."""
    if not subject:
        return {}
    if subject.count("{subject}") != 1:
        raise InputError(f"--subject: {subject!r} must hold {{subject}} once, for example '{{subject}}_*'")
    pattern = PathPattern(subject, "subject")
    found = {file.path: pattern.find_subject(file.path) for file in images}
    missed = [path for path, name in found.items() if name is None]
    if missed:
        message = f"does not fit {len(missed)} of {len(found)} images, for example {missed[0]}"
        raise InputError(f"--subject: {subject!r} {message}; unknown subjects could leak from training into the test")
    return {path: name for path, name in found.items() if name is not None}


def _make_cases(
    images: Sequence[NamedFile], labels: Mapping[str, tuple[str, ...]], subjects: Mapping[str, str]
) -> tuple[Case, ...]:
    stems = Counter(file.stem for file in images)
    cases: dict[str, Case] = {}
    for file in images:
        name = file.stem if stems[file.stem] == 1 else "_".join((*file.context, file.stem))
        case = Case(
            case_id=_make_id(name),
            subject=_make_id(subjects[file.path]) if subjects else "",
            image=(file.path,),
            label=labels.get(file.path),
            split=_find_split(file.path),
        )
        other = cases.setdefault(case.case_id, case)
        if other is not case:
            both = f"{other.image[0]} and {file.path}"
            raise InputError(f"both {both} would be the case {case.case_id!r}; rename one, or choose with --image")
    return naming.sort_cases(cases.values())


def _make_id(name: str) -> str:
    return naming.make_printable(name) if name.strip() else "_"


def _find_split(path: str) -> Split:
    """Return the split that the innermost folder with such a name says."""
    folders = [folder.casefold() for folder in path.split("/")[:-1]]
    return next((naming.SPLIT_NAMES[folder] for folder in reversed(folders) if folder in naming.SPLIT_NAMES), "train")


def _note_further(further: Mapping[str, Sequence[str]]) -> Iterator[Issue]:
    if further:
        image, paths = next(iter(further.items()))
        message = f"{len(further)} images have several masks, which are united: {image} has {paths[0]} too"
        yield note("several-masks", message)


def _note_choices(cases: Sequence[Case], subject: str | None) -> Iterator[Issue]:
    if not any(folder.casefold() in naming.SPLIT_NAMES for case in cases for folder in case.image[0].split("/")[:-1]):
        yield naming.note_no_splits("folder is named train, val or test")
    if subject:
        number = len({case.subject_key() for case in cases})
        example = f"{cases[0].image[0]} is of {cases[0].subject!r}"
        yield note("subjects", f"{len(cases)} images of {number} subjects: {example}")
