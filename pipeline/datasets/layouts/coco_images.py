"""The images of annotation files: where they lie, and whether outlines were drawn as viewers show them.

File names were often written on another computer, and photographs have EXIF orientations that viewers apply.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from pipeline.datasets.coco.annotations import CocoImage
from pipeline.datasets.digests import map_threads
from pipeline.datasets.layouts.listing import Listing, note
from pipeline.datasets.manifests.manifest import Case
from pipeline.datasets.probes import ImageError, Probe, probe_image
from pipeline.datasets.probes.orientation import QUARTER_TURNS
from pipeline.issues import InputError, Issue

ORIENTATIONS = ("auto", "displayed", "stored")
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
    by_tail = _index_tails(listing, {end.count("/") + 1 for image in images for end in _list_ends(image)})
    found = {image.file_name: _find(image, by_tail) for image in images}
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


def _index_tails(listing: Listing, lengths: Collection[int]) -> Mapping[str, list[str]]:
    """Return the files by the end of their path, folded, of as many parts as each of the lengths."""
    by_tail: defaultdict[str, list[str]] = defaultdict(list)
    for file in listing.known():
        parts = _fold(file).split("/")
        for length in lengths:
            if length <= len(parts):
                by_tail["/".join(parts[-length:])].append(file)
    return by_tail


def _find(image: CocoImage, by_tail: Mapping[str, Sequence[str]]) -> dict[_Base, str]:
    """Return the files that fit the longest possible end of an image's name."""
    for cut, end in enumerate(_list_ends(image)):
        near: defaultdict[_Base, list[str]] = defaultdict(list)
        for file in by_tail.get(_fold(end), ()):
            folder, tail = _split_tail(file, end.count("/") + 1)
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


def find_turns(
    listing: Listing, cases: Sequence[Case], sizes: Mapping[str, tuple[int, int]], orientation: str
) -> tuple[dict[str, Any], list[Issue]]:
    """Find the photographs whose drawn masks must be turned to the stored pixels, which MONAI reads.

    The annotated size shows it where a picture that is not square is turned by 90 degrees. For the others
    ``orientation`` decides: ``"displayed"`` (labelme, CVAT, browsers) or ``"stored"``; ``"auto"`` takes what all
    pictures show whose size tells.

    Args:
        listing: the dataset's folder.
        cases: images with drawn masks.
        sizes: annotated height and width, by label path.
        orientation: one of `ORIENTATIONS`.

    Returns:
        The keys ``orientation`` and ``turned`` of a manifest's ``coco``, none without such photographs; and notes.

    Raises:
        InputError: it is ``"auto"``, and there are photographs for which nothing tells.
    """
    labels = {(case.label or ("",))[0]: case.image[0] for case in cases}
    tagged = {label: probe for label, probe in _probe_all(listing, labels) if _tag_of(probe) != 1}
    if not tagged:
        return {}, []
    shown = {label: _compare(probe, sizes[label]) for label, probe in tagged.items()}
    told = set(shown.values()) - {""}
    unclear = [label for label, drawn in shown.items() if not drawn]
    policy = orientation if orientation != "auto" else told.pop() if len(told) == 1 else ""
    if unclear and not policy:
        first = f"{labels[unclear[0]]} (tag {_tag_of(tagged[unclear[0]])})"
        raise InputError(f"{listing.root}: {_ask(len(unclear), first)}")
    drawn = {label: how or policy for label, how in shown.items()}
    turned = {label: _tag_of(tagged[label]) for label, how in drawn.items() if how == "displayed"}
    keys = {"orientation": policy or "stored", **({"turned": turned} if turned else {})}
    what = "as viewers show the picture; the masks are turned to the stored pixels"
    message = f"{len(tagged)} photographs have an EXIF orientation; outlines of {len(turned)} were drawn {what}"
    return keys, [note("exif-orientation", message)]


def _probe_all(listing: Listing, images: Mapping[str, str]) -> list[tuple[str, Probe]]:
    """Return the headers of the images on disk, by label; those that cannot be read are reported later."""

    def probe(label: str) -> tuple[str, Probe | None]:
        try:
            return label, probe_image(listing.root / images[label], decode=False, is_mask=False)
        except (ImageError, OSError):
            return label, None

    on_disk = set(listing.files)
    found = map_threads(probe, [label for label, image in images.items() if image in on_disk])
    return [(label, header) for label, header in found if header is not None]


def _tag_of(probe: Probe) -> int:
    # Pillow applies the tag of TIFF files itself.
    return 1 if probe.format == "TIFF" else int(probe.header.get("exif_orientation", 1))


def _compare(probe: Probe, annotated: tuple[int, int]) -> str:
    """Return on which pixels the annotated size shows the outlines to be drawn, "" if it does not tell."""
    if _tag_of(probe) not in QUARTER_TURNS or probe.shape == probe.shape[::-1]:
        return ""
    return {probe.shape: "stored", probe.shape[::-1]: "displayed"}.get(annotated, "")


def _ask(number: int, first: str) -> str:
    what = "1 photograph has" if number == 1 else f"{number} photographs have"
    message = f"{what} an EXIF orientation, for example {first}, and no size shows on which pixels outlines were drawn"
    hint = (
        "--orientation displayed if as viewers show the picture (labelme, CVAT, browsers), --orientation stored if not"
    )
    return f"{message}; {hint}"
