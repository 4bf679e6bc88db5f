"""The outline of one annotation, believed only after every number was looked at.

Measured with pycocotools 2.0.11: a coordinate that is not a number, infinite or 1e9 ends the process (out of memory or
segmentation fault), and run lengths that do not fill the image put uninitialised memory into the mask. So what passes
here is what pycocotools can draw, and nothing else reaches it.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.datasets.coco.rle import decode_counts, measure_runs

# Roboflow and others round vertices on the border to a little outside; pycocotools cuts that off without harm.
SLACK = 1.0
# A vertex farther away than this many image sizes is a mistake, not an object at the border.
FAR = 10.0
# pycocotools allocates about 40 bytes a pixel of an outline's length.
MAX_LENGTH = 2_000_000.0

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring, _SHORT.maxother = 2, 4, 4, 60, 60


def show(value: object) -> str:
    r"""Return a short text for a value that nobody has checked: of any type, depth, length and characters.

    Example:
        >>> show([[[1], 2], 3]), show("a\n\ud800")
        ('[[[...], 2], 3]', "'a\\n\\ud800'")
    """
    return _SHORT.repr(value)


@dataclass(frozen=True)
class Flaw:
    """What is wrong with a part of an annotation.

    Args:
        code: issue code.
        message: what was found.
        hint: what to do.
        skip: the part can be left out if others remain.
    """

    code: str
    message: str
    hint: str = ""
    skip: bool = False


@dataclass(frozen=True)
class Segmentation:
    """An annotation's shape, safe to draw.

    Args:
        polygons: outlines ``(x0, y0, x1, y1, ...)`` in pixels, the image's corner at (0, 0); their union counts.
        counts: run lengths down the columns, background first; () for polygons.
        skipped: outlines that were left out.
        clipped: an outline reaches out of the image and will be cut off.
        flaw: why there is nothing to draw; None if there is.
    """

    polygons: tuple[Sequence[float], ...] = ()
    counts: Sequence[int] = ()
    skipped: tuple[Flaw, ...] = ()
    clipped: bool = False
    flaw: Flaw | None = None


def read_segmentation(value: object, height: int, width: int) -> Segmentation:
    """Check the key ``segmentation`` of an annotation.

    Args:
        value: what the JSON file holds: a list of polygons, or run lengths ``{"size": [h, w], "counts": ...}``.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Returns:
        The shape. Its ``flaw`` has one of the codes ``manifest-schema``, ``coco-coordinate``, ``degenerate-polygon``,
        ``coco-bounds`` and ``coco-rle``.

    Example:
        >>> read_segmentation([[0, 0, 4, 0, 4, 4]], 8, 8).polygons
        ([0, 0, 4, 0, 4, 4],)
        >>> read_segmentation([[0, 0, 4, float("nan"), 4, 4]], 8, 8).flaw.code
        'coco-coordinate'
    """
    if isinstance(value, dict):
        return _read_runs(value, height, width)
    if not isinstance(value, list):
        message = f"segmentation is {show(value)}, expected a list of polygons or run lengths"
        return Segmentation(flaw=Flaw("manifest-schema", message))
    if value and not isinstance(value[0], list):
        message, hint = (
            f"segmentation is {show(value)}, expected a list of polygons",
            "put the numbers into a list: [[x, y]]",
        )
        return Segmentation(flaw=Flaw("manifest-schema", message, hint))
    return _read_polygons(value, height, width)


def _read_polygons(value: list[object], height: int, width: int) -> Segmentation:
    polygons: list[Sequence[float]] = []
    skipped: list[Flaw] = []
    clipped = False
    for ring in value:
        flaw = _find_polygon_flaw(ring, height, width)
        if flaw and not flaw.skip:
            return Segmentation(flaw=flaw)
        if flaw:
            skipped.append(flaw)
        elif isinstance(ring, list):
            polygons.append(ring)
            clipped = clipped or _leaves_image(ring, height, width)
    if polygons:
        return Segmentation(tuple(polygons), skipped=tuple(skipped), clipped=clipped)
    nothing = Flaw("degenerate-polygon", "no outline at all", "draw the outline again, or remove the annotation")
    return Segmentation(flaw=skipped[0] if skipped else nothing)


def _find_polygon_flaw(ring: object, height: int, width: int) -> Flaw | None:
    if not isinstance(ring, list):
        return Flaw("manifest-schema", f"a polygon is {show(ring)}, expected a list of numbers")
    reach = FAR * max(height, width)
    for number in ring:
        # The comparison is false for not-a-number, too, and cannot overflow.
        if type(number) not in (int, float) or not -reach <= number <= reach:
            message = f"coordinate {show(number)} in an image of {height} x {width} pixels"
            return Flaw("coco-coordinate", message, "export the annotations again, or correct the outline")
    if len(ring) % 2:
        return Flaw("degenerate-polygon", f"odd number of coordinates ({len(ring)})", skip=True)
    if len(ring) < 6:
        return Flaw("degenerate-polygon", f"{len(ring) // 2} points, a polygon needs 3", skip=True)
    if _is_line(ring):
        return Flaw("degenerate-polygon", "all points on one line: zero area", skip=True)
    left, top, right, bottom = measure_box(ring)
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        message = (
            f"outline from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) in an image of {width} x {height} (x, y)"
        )
        return Flaw("coco-bounds", message, "check that the image has not been resized", skip=True)
    length = sum(max(abs(ring[i] - ring[i - 2]), abs(ring[i + 1] - ring[i - 1])) for i in range(0, len(ring), 2))
    if length > MAX_LENGTH:
        return Flaw("coco-coordinate", f"an outline {length:.3g} pixels long")
    return None


def _is_line(ring: Sequence[float]) -> bool:
    """Tell whether all points lie on one line; a bow-tie, whose signed area may be 0, does not."""
    x, y = ring[0], ring[1]
    far = max(range(0, len(ring), 2), key=lambda i: abs(ring[i] - x) + abs(ring[i + 1] - y))
    dx, dy = ring[far] - x, ring[far + 1] - y
    size = math.hypot(dx, dy)
    # Within 1e-6 pixels of the line: an outline that thin is a rounding error.
    return all(abs((ring[i] - x) * dy - (ring[i + 1] - y) * dx) <= 1e-6 * size for i in range(0, len(ring), 2))


def _leaves_image(ring: Sequence[float], height: int, width: int) -> bool:
    left, top, right, bottom = measure_box(ring)
    return left < -SLACK or top < -SLACK or right > width + SLACK or bottom > height + SLACK


def measure_box(ring: Sequence[float]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a polygon.

    Example:
        >>> measure_box([1, 2, 5, 2, 5, 9])
        (1, 2, 5, 9)
    """
    return min(ring[::2]), min(ring[1::2]), max(ring[::2]), max(ring[1::2])


def _read_runs(value: dict[object, object], height: int, width: int) -> Segmentation:
    size, counts = value.get("size"), value.get("counts")
    if size != [height, width] or not all(type(number) is int for number in size):
        hint = "size is [height, width]" if size == [width, height] else "export the annotations again"
        message = f"run lengths for a size of {show(size)}, the image has [{height}, {width}]"
        return Segmentation(flaw=Flaw("coco-rle", message, hint))
    pixels = height * width
    if isinstance(counts, str):
        try:
            counts = decode_counts(counts, pixels)
        except ValueError as error:
            return Segmentation(flaw=Flaw("coco-rle", f"compressed counts: {error}", "export the annotations again"))
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= pixels for count in counts):
        message = f"counts are {show(counts)}, expected run lengths from 0 to {pixels} or a compressed text"
        return Segmentation(flaw=Flaw("coco-rle", message, "export the annotations again"))
    if sum(counts) != pixels:
        message = f"the runs have {sum(counts)} pixels, the image {height} x {width} has {pixels}"
        return Segmentation(flaw=Flaw("coco-rle", message, "export the annotations again"))
    if not measure_runs(counts, height)[1]:
        return Segmentation(flaw=Flaw("coco-rle", "the runs hold no foreground pixel", "remove the annotation"))
    return Segmentation(counts=counts)
