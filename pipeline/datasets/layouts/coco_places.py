"""Where the images of an annotation file lie, whose file names were often written on another computer."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.datasets.coco.annotations import CocoImage
from pipeline.datasets.layouts.listing import Listing, note
from pipeline.issues import InputError, Issue

# A folder of the dataset, and how many parts of the file name are cut off at its beginning.
_Base = tuple[str, int]


def locate_images(
    listing: Listing, path: str, images: Sequence[CocoImage], rank: Callable[[str], Any]
) -> dict[str, str]:
    r"""Return the path of each image relative to the dataset's folder, by its file name.

    All images are looked for in the folder that holds most of them. Of a foreign file name
    (``C:\Users\me\JPEGImages\0.jpg``) the longest end that fits a file counts. Names that differ in upper and lower
    case or Unicode form fit if no other file does. An image that is not found has the path where it should be.

    Args:
        listing: the dataset's folder.
        path: the annotation file.
        images: its images.
        rank: prefers a folder among those with equally many images.

    Raises:
        InputError: none of the images is there.
    """
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for file in listing.known():
        by_name[_fold(file.rpartition("/")[2])].append(file)
    found = {image.file_name: _find(image, by_name) for image in images}
    counts = Counter(base for places in found.values() for base in places)
    if images and not counts:
        first = images[0]
        ends = " or ".join(_list_ends(first))
        message = f"none of the {len(images)} images of {path} is in {listing.root}, for example {first.file_name}"
        raise InputError(f"{message} (looked for files that end in {ends}); put the images next to the annotations")
    if not counts:
        return {}
    best = max(counts, key=lambda base: (counts[base], -base[1], rank(base[0])))
    return {image.file_name: _choose(image, found[image.file_name], best) for image in images}


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _list_ends(image: CocoImage) -> list[str]:
    """Return the ends of a file name that are looked for, the longest first."""
    parts = image.file_name.split("/")
    return ["/".join(parts[cut:]) for cut in range(len(parts) if image.is_foreign else 1)]


def _find(image: CocoImage, by_name: Mapping[str, Sequence[str]]) -> dict[_Base, str]:
    """Return the files that fit the longest possible end of an image's name."""
    for cut, end in enumerate(_list_ends(image)):
        near: defaultdict[_Base, list[str]] = defaultdict(list)
        for file in by_name.get(_fold(end.rpartition("/")[2]), ()):
            folder, tail = _split_tail(file, end.count("/") + 1)
            if _fold(tail) == _fold(end):
                near[folder, cut].append(tail)
        places = {base: _pick(tails, end) for base, tails in near.items()}
        if any(places.values()):
            return {base: base[0] + tail for base, tail in places.items() if tail}
    return {}


def _split_tail(file: str, number: int) -> tuple[str, str]:
    parts = file.split("/")
    return "".join(f"{part}/" for part in parts[:-number]), "/".join(parts[-number:])


def _pick(tails: Sequence[str], end: str) -> str:
    """Return the tail that is equal, or equal in Unicode form, or the only one; "" if it is not clear."""
    exact = [tail for tail in tails if tail == end]
    same = exact or [tail for tail in tails if unicodedata.normalize("NFC", tail) == unicodedata.normalize("NFC", end)]
    return same[0] if same else tails[0] if len(tails) == 1 else ""


def _choose(image: CocoImage, places: Mapping[_Base, str], best: _Base) -> str:
    if best in places:
        return places[best]
    if image.is_foreign and len(places) == 1:
        return next(iter(places.values()))
    folder, cut = best
    parts = image.file_name.split("/")
    return folder + "/".join(parts[min(cut, len(parts) - 1) :])


def note_spelling(
    path: str, images: Sequence[CocoImage], places: Mapping[str, str], listing: Listing
) -> Iterator[Issue]:
    """Yield notes if images were found by the end of their file name, or spelt otherwise: case or Unicode form."""
    on_disk = set(listing.files)
    found = [image for image in images if places[image.file_name] in on_disk]
    foreign = [image for image in found if image.is_foreign]
    other = [
        image for image in found if places[image.file_name].rpartition("/")[2] != image.file_name.rpartition("/")[2]
    ]
    for chosen, what in ((foreign, "found by the end of their file names"), (other, "spelt otherwise on the disk")):
        if chosen:
            first = chosen[0].file_name
            message = f"{len(chosen)} of {len(images)} images are {what}, for example {first}: {places[first]}"
            yield note("file-name-spelling", message, path=path)
