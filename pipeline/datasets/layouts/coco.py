"""COCO annotations: a Roboflow export, or one JSON file a split beside folders of images.

Roboflow: ``train/``, ``valid/`` (or ``val/``) and ``test/``, each with images and ``_annotations.coco.json``. Plain:
``annotations/instances_train2017.json`` and ``train2017/`` or ``images/train2017/``, or one JSON file and its images.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pipeline.datasets.coco.annotation_file import read_annotations
from pipeline.datasets.coco.annotations import CocoFile, CocoImage
from pipeline.datasets.coco.labels import join_categories, map_categories
from pipeline.datasets.coco.validation import check_annotations
from pipeline.datasets.layouts.listing import Draft, Listing, note, note_names
from pipeline.datasets.manifests.manifest import Case, Manifest, Split
from pipeline.datasets.probes import ImageError, find_ending, probe_image
from pipeline.issues import InputError, Issue

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
CHANNELS = {1: ("intensity",), 3: ("red", "green", "blue")}
_ROBOFLOW_COPY = re.compile(r"(?P<source>.+)\.rf\.[0-9A-Za-z]+$")
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class _Part:
    """An annotation file with its split and the folder of its images."""

    path: str
    file: CocoFile
    split: Split
    named: bool
    folder: str

    def image_path(self, image: CocoImage) -> str:
        return self.folder + image.file_name


def read(listing: Listing, *, categories: str = "merge", unannotated: str = "drop", crowd: str = "ignore") -> Draft:
    """Read a folder with COCO annotations.

    A case is an image. Its mask is drawn from the annotations when it is needed. The official split is kept. There are
    no patients; but the copies of one image that Roboflow makes (``<name>.rf.<hash>.jpg``) are one subject.

    Args:
        listing: the folder.
        categories: which category becomes which label, see `map_categories`. The default merges all, because
            exports often have classes that nobody describes.
        unannotated: ``"drop"``: an image without annotation is left out, for its labels may be lost; ``"negative"``:
            it is a case with an empty mask.
        crowd: ``"ignore"``: annotations marked ``iscrowd`` are left out; ``"merge"``: they are drawn like others.

    Returns:
        The draft; its notes hold the findings of `check_annotations`.

    Raises:
        InputError: no annotations or none with images here, files with different categories, two files for one image,
            or an option that cannot be read.
    """
    for name, value, allowed in (
        ("unannotated", unannotated, ("drop", "negative")),
        ("crowd", crowd, ("ignore", "merge")),
    ):
        if value not in allowed:
            raise InputError(f"--{name} must be one of {', '.join(allowed)}, got {value!r}")
    parts = [_locate(listing, path, file) for path, file in _find_files(listing)]
    used: Counter[int] = sum((part.file.used_categories() for part in parts), Counter())
    table = join_categories([replace(part.file, name=part.path) for part in parts])
    labels, names = map_categories(categories, table, used)
    cases = _make_cases(parts, keep_unannotated=unannotated == "negative")
    licences = dict.fromkeys(licence for part in parts for licence in part.file.licences)
    manifest = Manifest(
        name=re.sub(r"[^\w.-]+", "_", listing.root.resolve().name) or "coco",
        layout="coco",
        task="segmentation",
        licence=", ".join(licences) or "not told by the annotation files",
        source="not told by the annotation files",
        labels=names,
        mask_values={label: label for label in names},
        channels=_read_channels(listing, cases),
        coco={"categories": {str(number): label for number, label in labels.items()}, "crowd": crowd},
        cases=cases,
    )
    return Draft(manifest, (*_note(parts, labels, names, unannotated, crowd), *_note_others(listing, parts)))


def _find_files(listing: Listing) -> list[tuple[str, CocoFile]]:
    """Return the annotation files: by Roboflow's name, by COCO's, else whatever JSON has images and annotations."""
    paths = [path for path in listing.files if path.lower().endswith(".json")]
    for pattern in (r"_annotations\.coco\.json", r"instances_.*\.json"):
        named = [path for path in paths if re.fullmatch(pattern, PurePosixPath(path).name)]
        if named:
            paths = named
            break
    files = [(path, read_annotations(listing.root / path)) for path in paths]
    usable = [(path, file) for path, file in files if file.images or file.broken]
    bad = [issue for path, file in files for issue in _whole_file_issues(file, path)]
    if bad and (named or not usable):
        raise InputError(f"{listing.root}: {bad[0].one_line().removeprefix('error ')}")
    if not usable:
        expected = "expected train/_annotations.coco.json, or annotations/instances_*.json with folders of images"
        raise InputError(f"no COCO annotations in {listing.root}; {expected}")
    return usable


def _whole_file_issues(file: CocoFile, path: str) -> list[Issue]:
    """Return why nothing of a file can be used."""
    whole = [issue for issue in file.issues if issue.code == "manifest-syntax" or "[" not in issue.record]
    return [replace(issue, path=path) for issue in whole if issue.severity == "error" and not file.images]


def _locate(listing: Listing, path: str, file: CocoFile) -> _Part:
    """Find the split of an annotation file, and the folder that holds most of its images."""
    parts = PurePosixPath(path).with_suffix("").parts
    words = [word for part in reversed(parts) for word in _WORD.findall(part.lower()) if word in SPLIT_NAMES]
    by_name: dict[str, list[str]] = {}
    for name in listing.known():
        by_name.setdefault(PurePosixPath(name).name, []).append(name)
    found: Counter[str] = Counter()
    for image in file.images.values():
        for name in by_name.get(PurePosixPath(image.file_name).name, ()):
            if f"/{name}".endswith(f"/{image.file_name}"):
                found[name.removesuffix(image.file_name)] += 1
    own = "".join(f"{part}/" for part in parts[:-1])
    if file.images and not found:
        first = next(iter(file.images.values())).file_name
        message = f"none of the {len(file.images)} images of {path} is in {listing.root}, for example {first}"
        raise InputError(f"{message}; put the images beside the annotations")

    def rank(folder: str) -> tuple[int, bool, bool, int]:
        same_split = bool(words) and words[0] in _WORD.findall(folder.lower())
        return found[folder], folder == own, same_split, -len(folder)

    folder = max(found, key=rank) if found else own
    return _Part(path, file, SPLIT_NAMES[words[0]] if words else "train", bool(words), folder)


def _make_cases(parts: Sequence[_Part], *, keep_unannotated: bool) -> tuple[Case, ...]:
    rows: list[tuple[_Part, CocoImage]] = []
    owner: dict[str, str] = {}
    for part in parts:
        lacking = set(part.file.unannotated())
        for image in part.file.images.values():
            path = part.image_path(image)
            if owner.setdefault(path, part.path) != part.path:
                raise InputError(f"{path} is annotated in {owner[path]} and in {part.path}; keep one of the files")
            if keep_unannotated or image.image_id not in lacking:
                rows.append((part, image))
    if not rows:
        raise InputError("no image has an annotation; --unannotated negative keeps images without")
    stems = Counter(_stem(image) for _, image in rows)
    sources = Counter(_source(image) for _, image in rows)
    cases = (
        Case(
            case_id=_stem(image)
            if stems[_stem(image)] == 1 and _stem(image).strip()
            else _unique_id(part.image_path(image)),
            # A name that occurs once says nothing of the patient.
            subject=_source(image) if _source(image) and sources[_source(image)] > 1 else "",
            image=(part.image_path(image),),
            label=(f"{part.path}#{image.image_id}",),
            split=part.split,
        )
        for part, image in rows
    )
    order: tuple[Split, ...] = ("train", "val", "test")
    return tuple(sorted(cases, key=lambda case: (order.index(case.split), case.image)))


def _stem(image: CocoImage) -> str:
    return _printable(PurePosixPath(image.file_name).stem)


def _unique_id(path: str) -> str:
    return _printable(path.replace("/", "_"))


def _printable(name: str) -> str:
    """Return a name that a manifest takes as id: joiners within emoji, for instance, are replaced."""
    return "".join(character if character.isprintable() else "_" for character in name)


def _source(image: CocoImage) -> str:
    """Return the name of the image that Roboflow made this copy of, "" if the name does not tell."""
    match = _ROBOFLOW_COPY.fullmatch(_stem(image))
    return match["source"] if match else ""


def _read_channels(listing: Listing, cases: Iterable[Case]) -> tuple[str, ...]:
    """Return the channels of the first image on disk; the checks compare the others with it."""
    there = set(listing.files)
    first = next((case.image[0] for case in cases if case.image[0] in there), None)
    try:
        probe = probe_image(listing.root / first, decode=False, is_mask=False) if first else None
    except ImageError:
        return ()  # whoever reads all of the image will tell
    return CHANNELS.get(probe.channels, ()) if probe else ()


def _note(
    parts: Sequence[_Part], labels: Mapping[int, int], names: Mapping[int, str], unannotated: str, crowd: str
) -> Iterable[Issue]:
    for part in parts:
        issues = check_annotations(part.file, categories=labels, crowd="merge" if crowd == "merge" else "ignore")
        for issue in issues:
            if issue.code == "unannotated-images":
                fate = "left out" if unannotated == "drop" else "kept with an empty mask"
                issue = replace(issue, message=f"{issue.message}; {fate} (--unannotated {unannotated})")
            yield replace(issue, path=part.path)
    merged = {name: [number for number in labels if labels[number] == label] for label, name in names.items() if label}
    for name, numbers in merged.items():
        used = [number for number in numbers if any(number in part.file.used_categories() for part in parts)]
        if len(used) > 1:
            message = f"categories {', '.join(map(str, used))} are merged into one label, {name!r}"
            yield note("merged-categories", message, hint="--categories keep makes each a label of its own")
    if not any(part.named for part in parts):
        message = "no folder or file is named train, val or test; all cases are train"
        yield note("split", message, hint="python -m pipeline dataset split MANIFEST deals them out")


def _note_others(listing: Listing, parts: Sequence[_Part]) -> Iterable[Issue]:
    mine = {part.image_path(image) for part in parts for image in part.file.images.values()}
    pictures = [path for path in listing.files if find_ending(path) and path not in mine]
    yield from note_names("unmatched-file", "without a row in an annotation file", pictures)
    told = {part.path for part in parts}
    tables = [path for path in listing.files if path.lower().endswith(".json") and path not in told]
    yield from note_names("unmatched-file", "not read as annotations", tables)
