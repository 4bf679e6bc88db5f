"""Validation of the outline of one annotation: every number is checked before pycocotools draws it.

Measured with pycocotools 2.0.11: a coordinate that is not a number, infinite or 1e9 ends the process (out of memory or
segmentation fault), and run lengths that do not fill the image put uninitialised memory into the mask. Only outlines
that pass here may reach it.
"""

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.datasets.coco.rle import decode_counts

# Roboflow and others round vertices on the border to slightly outside; pycocotools cuts that off without harm.
SLACK = 1.0
# A vertex farther away than this many image sizes is a mistake, not an object at the border.
FAR = 10.0
# pycocotools allocates about 40 bytes a pixel of an outline's length.
MAX_LENGTH = 2_000_000.0

_EXPORT = "export the annotations again"
_EXPORT_OR_CORRECT = f"{_EXPORT}, or correct the outline"
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring, _SHORT.maxother = 2, 4, 4, 60, 60


def show(value: object) -> str:
    r"""Return a short text for an unchecked value of any type, depth, length and characters.

    Example:
        >>> show([[[1], 2], 3]), show("a\n\ud800")
        ('[[[...], 2], 3]', "'a\\n\\ud800'")
    """
    return _SHORT.repr(value)


@dataclass(frozen=True)
class Flaw:
    """A problem of an annotation's part; with ``skip``, the part can be left out if others remain."""

    code: str
    message: str
    hint: str = ""
    skip: bool = False


@dataclass(frozen=True)
class Segmentation:
    """An annotation's shape, safe to draw."""

    #: outlines ``(x0, y0, x1, y1, ...)`` in pixels, the image's corner at (0, 0); their union counts
    polygons: tuple[Sequence[float], ...] = ()
    counts: Sequence[int] = ()  #: run lengths down the columns, background first; () for polygons
    skipped: tuple[Flaw, ...] = ()  #: problems of the outlines that were left out
    clipped: bool = False  #: an outline extends beyond the image and will be cut off
    flaw: Flaw | None = None  #: the reason why nothing can be drawn, or None


def read_segmentation(value: object, height: int, width: int) -> Segmentation:
    """Check ``segmentation`` of an annotation: a list of polygons, or ``{"size": [h, w], "counts": ...}``.

    The image is ``height`` x ``width`` pixels. The ``flaw`` of the shape has one of the codes ``manifest-schema``,
    ``coco-coordinate``, ``degenerate-polygon``, ``coco-bounds`` and ``coco-rle``.

    Example:
        >>> read_segmentation([[0, 0, 4, 0, 4, 4]], 8, 8).polygons
        ([0, 0, 4, 0, 4, 4],)
        >>> read_segmentation([[0, 0, 4, float("nan"), 4, 4]], 8, 8).flaw.code
        'coco-coordinate'
    """
    if isinstance(value, dict):
        return _read_runs(value, height, width)
    problem = f"segmentation is {show(value)}, expected a list of polygons"
    if not isinstance(value, list):
        return Segmentation(flaw=Flaw("manifest-schema", f"{problem} or run lengths"))
    if value and not isinstance(value[0], list):
        return Segmentation(flaw=Flaw("manifest-schema", problem, "put the numbers into a list: [[x, y]]"))
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
            return Flaw("coco-coordinate", message, _EXPORT_OR_CORRECT)
    degenerate = _find_degeneration(ring)
    if degenerate:
        return Flaw("degenerate-polygon", degenerate, skip=True)
    left, top, right, bottom = measure_box(ring)
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        corners = f"({left:g}, {top:g}) to ({right:g}, {bottom:g})"
        message = f"outline from {corners} in an image of {width} x {height} (x, y)"
        return Flaw("coco-bounds", message, "check that the image has not been resized", skip=True)
    length = sum(max(abs(ring[i] - ring[i - 2]), abs(ring[i + 1] - ring[i - 1])) for i in range(0, len(ring), 2))
    if length > MAX_LENGTH:
        return Flaw("coco-coordinate", f"an outline {length:.3g} pixels long")
    return None


def _find_degeneration(ring: Sequence[float]) -> str:
    if len(ring) % 2:
        return f"odd number of coordinates ({len(ring)})"
    if len(ring) < 6:
        return f"{len(ring) // 2} points, a polygon needs 3"
    return "all points on one line: zero area" if _is_line(ring) else ""


def _is_line(ring: Sequence[float]) -> bool:
    """Return whether all points lie on one line; a bow-tie, whose signed area may be 0, does not."""
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
        hint = "size is [height, width]" if size == [width, height] else _EXPORT
        message = f"run lengths for a size of {show(size)}, the image has [{height}, {width}]"
        return Segmentation(flaw=Flaw("coco-rle", message, hint))
    try:
        counts = decode_counts(counts, height * width) if isinstance(counts, str) else counts
    except ValueError as error:
        return Segmentation(flaw=Flaw("coco-rle", f"compressed counts: {error}", _EXPORT))
    flaw = _find_runs_flaw(counts, height, width)
    return Segmentation(flaw=flaw) if flaw else Segmentation(counts=counts)  # type: ignore[arg-type]


def _find_runs_flaw(counts: object, height: int, width: int) -> Flaw | None:
    pixels = height * width
    if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= pixels for count in counts):
        message = f"counts are {show(counts)}, expected run lengths from 0 to {pixels} or a compressed text"
        return Flaw("coco-rle", message, _EXPORT)
    if sum(counts) != pixels:
        message = f"the runs have {sum(counts)} pixels, the image {height} x {width} has {pixels}"
        return Flaw("coco-rle", message, _EXPORT)
    if not any(counts[1::2]):
        return Flaw("coco-rle", "the runs hold no foreground pixel", "remove the annotation")
    return None
