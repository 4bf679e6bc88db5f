"""Photographs with an EXIF orientation: whether their outlines were drawn as viewers show them, or on stored pixels."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.datasets.digests import map_threads
from pipeline.datasets.layouts.listing import Listing, note
from pipeline.datasets.manifests.manifest import Case
from pipeline.datasets.probes import ImageError, Probe, probe_image
from pipeline.datasets.probes.orientation import QUARTER_TURNS
from pipeline.issues import InputError, Issue

ORIENTATIONS = ("auto", "displayed", "stored")


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
