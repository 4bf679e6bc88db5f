"""Medical Segmentation Decathlon: ``imagesTr``, ``labelsTr``, ``imagesTs`` of NIfTI volumes, with ``dataset.json``."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from pipeline.datasets.layouts import volumes
from pipeline.datasets.layouts.listing import Listing, ManifestDraft, note, note_names
from pipeline.datasets.layouts.naming import count_channels, note_others, start_manifest
from pipeline.datasets.manifests.manifest import Case, Manifest, Split
from pipeline.datasets.probes import expected_format
from pipeline.issues import InputError, Issue

SOURCE = "http://medicaldecathlon.com"
_CITATION = "Antonelli et al.: The Medical Segmentation Decathlon. Nature Communications, 2022."
_DATASET = start_manifest("decathlon", spacing_policy="header")
# The content of the official dataset.json, for folders that lost it; by name of the folder.
_OFFICIAL: dict[str, Manifest] = {
    "Task04_Hippocampus": replace(
        _DATASET,
        name="hippocampus",
        licence="CC BY-SA 4.0",
        source=SOURCE,
        citations=(_CITATION,),
        labels={0: "background", 1: "Anterior", 2: "Posterior"},
        channels=("MRI",),
    )
}


def read(listing: Listing, labels: str | None = None) -> ManifestDraft:
    """Read a task of the Decathlon.

    With ``dataset.json``, its lists name the cases. Without, images and labels of equal name are pairs; the names of
    the labels are then the official ones if the folder has its official name, else the values of the masks, numbered.
    Images of ``imagesTs`` are test cases, which usually have no label.

    Subjects stay unknown, because the Decathlon does not say which volumes are from one person (the hippocampi of 195
    people are 390 volumes).

    Args:
        listing: the folder of the task, or the one above.
        labels: names, ``0=background,1=...``; None takes those of ``dataset.json``.

    Returns:
        The draft; cases have a fold if the items of ``dataset.json`` have a ``"fold"``.

    Raises:
        InputError: no images, an image without label, or a ``dataset.json`` that cannot be understood.
    """
    prefix = volumes.find_root(listing, "imagesTr")
    description = volumes.read_description(listing, prefix)
    notes: list[Issue] = []
    if description is None:
        cases = tuple(_pair_by_name(listing, prefix))
        manifest = _guess(listing, prefix, cases, notes, labels)
    else:
        cases = tuple(_read_lists(listing, prefix, description, notes))
        manifest = _describe(description, str(listing.root / f"{prefix}dataset.json"), labels)
    if not cases:
        raise InputError(f"no pair of image and label in {listing.root / prefix}; expected imagesTr/ and labelsTr/")
    if labels is not None:
        manifest = replace(manifest, labels=volumes.parse_labels(labels))
    notes += note_others(listing, cases, {"dataset.json"})
    numbered = volumes.number_labels(manifest.labels, str(listing.root / f"{prefix}dataset.json"))
    return ManifestDraft(replace(manifest, **numbered, cases=cases), tuple(notes))


def _describe(description: Mapping[str, Any], where: str, labels: str | None) -> Manifest:
    table = {0: "background"} if labels is not None else volumes.read_label_table(description.get("labels"), where)
    channels = volumes.name_channels(description, where)
    return replace(_DATASET, labels=table, channels=channels, **volumes.read_terms(description, "decathlon"))


def _guess(listing: Listing, prefix: str, cases: tuple[Case, ...], notes: list[Issue], labels: str | None) -> Manifest:
    """Return the manifest's head without ``dataset.json``, and note that it is missing."""
    name = prefix.rstrip("/") or listing.root.resolve().name
    official = _OFFICIAL.get(name)
    if official is not None:
        message = f"there is no dataset.json: labels and channels are the official ones of {name}"
        notes.append(note("description-missing", message))
        return official
    count = count_channels(listing, [case.image[0] for case in cases]) or 1
    channels = ("image",) if count == 1 else tuple(f"channel {index}" for index in range(count))
    found: dict[int, str] = {}
    if labels is None:
        found = volumes.find_labels(listing, [path for case in cases for path in case.label or ()])
        message = f"there is no dataset.json: the masks hold the labels {', '.join(map(str, found))}, without names"
        notes.append(note("description-missing", message, hint="--labels 0=background,1=NAME,... names them"))
    return replace(_DATASET, name=name, labels=found, channels=channels)


def _pair_by_name(listing: Listing, prefix: str) -> Iterator[Case]:
    images, masks = (_index_volumes(listing, f"{prefix}{folder}/") for folder in ("imagesTr", "labelsTr"))
    if masks:
        _require_partners(listing, images, masks, "label")
        _require_partners(listing, masks, images, "image")
    for stem in sorted(images):
        yield _case(stem, images[stem], masks.get(stem), "train")
    tests, masks = (_index_volumes(listing, f"{prefix}{folder}/") for folder in ("imagesTs", "labelsTs"))
    for stem in sorted(tests):
        yield _case(f"imagesTs_{stem}" if stem in images else stem, tests[stem], masks.get(stem), "test")


def _require_partners(listing: Listing, files: Mapping[str, str], others: Mapping[str, str], kind: str) -> None:
    lacking = sorted(set(files) - set(others))
    if lacking:
        advice = "; is this nnU-Net's layout? type nnunet for decathlon" if lacking[0].endswith("_0000") else ""
        message = f"{listing.root / files[lacking[0]]} has no {kind} ({len(lacking)} such files)"
        raise InputError(f"{message}, expected a file of the same name in {kind}sTr{advice}")


def _index_volumes(listing: Listing, folder: str) -> dict[str, str]:
    """Return the volumes directly in a folder by name without ending."""
    result: dict[str, str] = {}
    for path in filter(expected_format, volumes.list_folder(listing, folder)):
        stem = volumes.strip_ending(path)
        if stem in result:
            raise InputError(f"{path} and {result[stem]} differ in their ending only; remove one of them")
        result[stem] = path
    return result


def _read_lists(listing: Listing, prefix: str, description: Mapping[str, Any], notes: list[Issue]) -> Iterator[Case]:
    known = set(listing.known())
    missing: list[str] = []
    seen: set[str] = set()
    where = str(listing.root / f"{prefix}dataset.json")
    splits: dict[str, Split] = {"training": "train", "validation": "val", "test": "test"}
    for key, split in splits.items():
        for image, label, fold in _read_items(description.get(key) or [], key, prefix, where):
            absent = [path for path in (image, label) if path and path not in known]
            if absent:
                missing += absent
                continue
            stem = volumes.strip_ending(image)
            name = f"{PurePosixPath(image).parent.name}_{stem}" if stem in seen else stem
            seen.add(name)
            yield replace(_case(name, image, label, split), fold=fold)
    hint = "download the rest, or continue without"
    notes += note_names("missing-file", "of dataset.json are not in the folder", missing, hint=hint)


def _read_items(items: Any, key: str, prefix: str, where: str) -> Iterable[tuple[str, str | None, int | None]]:
    if not isinstance(items, list):
        raise InputError(f"{where}: {key!r} is not a list")
    for item in items:
        entry = item if isinstance(item, Mapping) else {"image": item}
        image, label, fold = entry.get("image"), entry.get("label"), entry.get("fold")
        if not isinstance(image, str) or not isinstance(label, str | None) or not isinstance(fold, int | None):
            raise InputError(f"{where}: {key!r} holds {item!r:.80}, expected {{'image': FILE, 'label': FILE}}")
        yield _join(prefix, image, where), None if label is None else _join(prefix, label, where), fold


def _join(prefix: str, path: str, where: str) -> str:
    posix = PurePosixPath(path.replace("\\", "/"))
    if posix.is_absolute() or ".." in posix.parts:
        raise InputError(f"{where}: {path!r} leaves the dataset's folder")
    return f"{prefix}{posix.as_posix()}"


def _case(name: str, image: str, label: str | None, split: Split) -> Case:
    return Case(name, "", (image,), None if label is None else (label,), split)
