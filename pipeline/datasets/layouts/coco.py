"""COCO annotations: a Roboflow export, or one JSON file per split next to folders of images.

Roboflow: ``train/``, ``valid/`` (or ``val/``) and ``test/``, each with images and ``_annotations.coco.json``. Plain:
``annotations/instances_train2017.json`` and ``train2017/`` or ``images/train2017/``, or one JSON file and its images.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pipeline.datasets.coco.annotation_file import read_annotations
from pipeline.datasets.coco.annotations import CocoFile, CocoImage
from pipeline.datasets.coco.checks import check_annotations
from pipeline.datasets.coco.labels import join_categories, map_categories
from pipeline.datasets.layouts import naming
from pipeline.datasets.layouts.coco_images import ORIENTATIONS, find_turns, locate_images, note_spelling
from pipeline.datasets.layouts.listing import Listing, ManifestDraft, note, note_names
from pipeline.datasets.manifests.manifest import Case, Split
from pipeline.datasets.probes import find_ending
from pipeline.issues import InputError, Issue, summarise

_ROBOFLOW_COPY = re.compile(r"(?P<source>.+)\.rf\.[0-9A-Za-z]+$")
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class _Part:
    """An annotation file."""

    path: str  #: relative to the dataset's folder
    file: CocoFile  #: its content
    split: Split  #: the split of its images
    named: bool  #: whether its name or folder says so
    places: Mapping[str, str]  #: path of each image relative to the dataset's folder, by its file name

    def image_path(self, image: CocoImage) -> str:
        return self.places[image.file_name]


def read(
    listing: Listing,
    *,
    categories: str = "merge",
    unannotated: str = "drop",
    crowd: str = "ignore",
    orientation: str = "auto",
) -> ManifestDraft:
    """Read a folder with COCO annotations.

    A case is an image. Its mask is drawn from the annotations on demand. The official split is kept. Patients are
    unknown, but the copies of one image that Roboflow makes (``<name>.rf.<hash>.jpg``) are one subject.

    Args:
        listing: the folder.
        categories: the label of each category, see `map_categories`. The default merges all, because exports often
            have undocumented classes.
        unannotated: ``"drop"``: an image without annotation is left out, because its labels may be lost;
            ``"negative"``: it is a case with an empty mask.
        crowd: ``"ignore"``: annotations marked ``iscrowd`` are left out; ``"merge"``: they are drawn like others.
        orientation: the pixels on which outlines of photographs with an EXIF orientation were drawn, see
            `find_turns`.

    Returns:
        The draft; its notes hold the findings of `check_annotations`.

    Raises:
        InputError: no annotations, or none with images here, files with different categories, two files for one image,
            or an option that cannot be read.
    """
    naming.require_choice("unannotated", unannotated, ("drop", "negative"))
    naming.require_choice("crowd", crowd, ("ignore", "merge"))
    naming.require_choice("orientation", orientation, ORIENTATIONS)
    parts = [_locate(listing, path, file) for path, file in _find_files(listing)]
    used: Counter[int] = sum((part.file.used_categories() for part in parts), Counter())
    table = join_categories([replace(part.file, name=part.path) for part in parts])
    labels, names = map_categories(categories, table, used)
    cases = _make_cases(parts, keep_unannotated=unannotated == "negative")
    sizes = {f"{part.path}#{image.image_id}": (image.height, image.width) for part, image in _list_images(parts)}
    drawn, turns = find_turns(listing, cases, sizes, orientation)
    licences = dict.fromkeys(licence for part in parts for licence in part.file.licences)
    manifest = naming.start_manifest(
        "coco",
        name=naming.name_dataset(listing, "coco"),
        licence=", ".join(licences) or "not given by the annotation files",
        source="not given by the annotation files",
        labels=names,
        mask_values={label: label for label in names},
        channels=naming.CHANNELS.get(naming.count_channels(listing, [case.image[0] for case in cases]), ()),
        coco={"categories": {str(number): label for number, label in labels.items()}, "crowd": crowd, **drawn},
        cases=cases,
    )
    notes = (*_note_findings(parts, labels, unannotated, crowd), *turns, *_note_merged(labels, names, used))
    return ManifestDraft(manifest, (*notes, *_note_others(listing, parts)))


def _find_files(listing: Listing) -> list[tuple[str, CocoFile]]:
    """Return the annotation files: by Roboflow's name, by COCO's, else any JSON with images and annotations."""
    paths = [path for path in listing.files if path.lower().endswith(".json")]
    for pattern in (r"_annotations\.coco\.json", r"instances_.*\.json"):
        named = [path for path in paths if re.fullmatch(pattern, PurePosixPath(path).name)]
        if named:
            paths = named
            break
    files = [(path, read_annotations(listing.root / path)) for path in paths]
    usable = [(path, file) for path, file in files if file.images or file.broken]
    # Errors without a row make a whole file unusable.
    found = ((path, issue) for path, file in files if not file.images for issue in file.issues)
    whole = ((path, issue) for path, issue in found if issue.code == "manifest-syntax" or "[" not in issue.record)
    bad = [replace(issue, path=path) for path, issue in whole if issue.severity == "error"]
    if bad and (named or not usable):
        raise InputError(f"{listing.root}: {bad[0].one_line().removeprefix('error ')}")
    if not usable:
        expected = "expected train/_annotations.coco.json, or annotations/instances_*.json with folders of images"
        raise InputError(f"no COCO annotations in {listing.root}; {expected}")
    return usable


def _locate(listing: Listing, path: str, file: CocoFile) -> _Part:
    """Find the split of an annotation file, and the folder that holds most of its images."""
    parts = PurePosixPath(path).with_suffix("").parts
    words = [word for part in reversed(parts) for word in _WORD.findall(part.lower()) if word in naming.SPLIT_NAMES]
    own = "".join(f"{part}/" for part in parts[:-1])

    def rank(folder: str) -> tuple[bool, bool, int]:
        same_split = bool(words) and words[0] in _WORD.findall(folder.lower())
        return folder == own, same_split, -len(folder)

    places = locate_images(listing, path, list(file.images.values()), rank)
    return _Part(path, file, naming.SPLIT_NAMES[words[0]] if words else "train", bool(words), places)


def _make_cases(parts: Sequence[_Part], *, keep_unannotated: bool) -> tuple[Case, ...]:
    rows = list(_select_images(parts, keep_unannotated=keep_unannotated))
    broken = [
        replace(issue, path=part.path) for part in parts for found in part.file.broken.values() for issue in found
    ]
    if not rows and broken:
        raise InputError(f"no image can be used: {summarise(broken)}")
    if not rows:
        raise InputError("no image has an annotation; --unannotated negative keeps images without")
    stems = Counter(_stem(image) for _, image in rows)
    sources = Counter(_find_original(image) for _, image in rows)
    cases = []
    for part, image in rows:
        path, stem, source = part.image_path(image), _stem(image), _find_original(image)
        case_id = stem if stems[stem] == 1 and stem.strip() else naming.make_printable(path.replace("/", "_"))
        # A name that occurs once does not identify a patient.
        subject = source if sources[source] > 1 else ""
        cases.append(Case(case_id, subject, (path,), (f"{part.path}#{image.image_id}",), part.split))
    return naming.sort_cases(cases)


def _list_images(parts: Sequence[_Part]) -> Iterator[tuple[_Part, CocoImage]]:
    return ((part, image) for part in parts for image in part.file.images.values())


def _select_images(parts: Sequence[_Part], *, keep_unannotated: bool) -> Iterator[tuple[_Part, CocoImage]]:
    owner: dict[str, tuple[str, CocoImage]] = {}
    for part in parts:
        unannotated = set(part.file.unannotated())
        for image in part.file.images.values():
            path = part.image_path(image)
            other, first = owner.setdefault(path, (part.path, image))
            if other != part.path:
                raise InputError(f"{path} is annotated in {other} and in {part.path}; keep one of the files")
            if first is not image:
                message = f"{path} is two images of {part.path}, {first.file_name} and {image.file_name}"
                raise InputError(f"{message}; give all its annotations to one image")
            if keep_unannotated or image.image_id not in unannotated:
                yield part, image


def _stem(image: CocoImage) -> str:
    return naming.make_printable(PurePosixPath(image.file_name).stem)


def _find_original(image: CocoImage) -> str:
    """Return the name of the image that Roboflow copied, "" if the name does not contain it."""
    match = _ROBOFLOW_COPY.fullmatch(_stem(image))
    return match["source"] if match else ""


def _note_findings(parts: Sequence[_Part], labels: Mapping[int, int], unannotated: str, crowd: str) -> Iterator[Issue]:
    for part in parts:
        issues = check_annotations(part.file, categories=labels, crowd="merge" if crowd == "merge" else "ignore")
        for issue in issues:
            if issue.code == "unannotated-images":
                fate = "left out" if unannotated == "drop" else "kept with an empty mask"
                issue = replace(issue, message=f"{issue.message}; {fate} (--unannotated {unannotated})")
            yield replace(issue, path=part.path)


def _note_merged(labels: Mapping[int, int], names: Mapping[int, str], used: Collection[int]) -> Iterator[Issue]:
    for label, name in names.items():
        numbers = [number for number in labels if label and labels[number] == label and number in used]
        if len(numbers) > 1:
            message = f"categories {', '.join(map(str, numbers))} are merged into one label, {name!r}"
            yield note("merged-categories", message, hint="--categories keep gives each its own label")


def _note_others(listing: Listing, parts: Sequence[_Part]) -> Iterator[Issue]:
    if not any(part.named for part in parts):
        yield naming.note_no_splits("folder or file is named train, val or test")
    for part in parts:
        yield from note_spelling(part.path, list(part.file.images.values()), part.places, listing)
    mine = {part.image_path(image) for part in parts for image in part.file.images.values()}
    pictures = [path for path in listing.files if find_ending(path) and path not in mine]
    yield from note_names("unmatched-file", "without a row in an annotation file", pictures)
    used = {part.path for part in parts}
    tables = [path for path in listing.files if path.lower().endswith(".json") and path not in used]
    yield from note_names("unmatched-file", "not read as annotations", tables)
