"""The slices of a DICOM series: their order in space, the distance between them, and problems with both."""

from __future__ import annotations

import itertools
import math
import os
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.datasets.files import locate_file
from pipeline.datasets.probes import ImageSource
from pipeline.issues import InputError

if TYPE_CHECKING:
    from pipeline.datasets.manifests.manifest import Case

Vector = tuple[float, ...]

# Slices closer than this are the same slice, in mm.
SAME_PLACE = 1e-3
# A distance longer than this multiple of the median is a gap.
GAP = 1.5
# Share of the median by which distances may differ without a warning.
UNEVEN = 0.05
_SAME_DIRECTION = 1e-3
# Degrees. Tilts that a header claims and the places of the slices do not show are reported from here on.
_TILT = 0.5
# Share of a voxel by which a slice may lie off the even line from the first to the last.
_OFF_LINE = 0.5


@dataclass(frozen=True)
class Slice:
    """Place and size of a slice; absent numbers are None, absent vectors ()."""

    series: str  #: SeriesInstanceUID
    instance: int | None  #: InstanceNumber
    position: Vector  #: ImagePositionPatient: the first pixel, in mm
    orientation: Vector  #: ImageOrientationPatient: the direction cosines of a row and of a column
    shape: tuple[int, ...]  #: rows and columns
    spacing: Vector  #: distance of rows and of columns in mm
    tilt: float | None = None  #: GantryDetectorTilt in degrees


def compute_depth(position: Vector, orientation: Vector) -> float | None:
    """Return the place of a slice along the normal of its plane in mm, None if it is unknown.

    Example:
        >>> compute_depth((10.0, 20.0, 30.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
        30.0
    """
    if len(position) != 3 or len(orientation) != 6:
        return None
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return sum(x * n for x, n in zip(position, normal, strict=True))


def sort_slices(slices: Mapping[str, Slice]) -> list[str]:
    """Return the files of a series from the first slice to the last: by place, else by instance number, else by name.

    The order is that of GDCM, and so of ITK and MONAI.
    """
    depths = {name: compute_depth(item.position, item.orientation) for name, item in slices.items()}
    if all(depth is not None for depth in depths.values()):
        # Orientations differ in the last digits, so that of the first file by name is used for all.
        first = slices[min(slices)].orientation
        depths = {name: compute_depth(item.position, first) for name, item in slices.items()}
        return sorted(slices, key=lambda name: (depths[name], slices[name].instance or 0, name))
    return sorted(slices, key=lambda name: (slices[name].instance is None, slices[name].instance or 0, name))


def measure_step(slices: Sequence[Slice]) -> float | None:
    """Return the median distance of neighbouring slices in mm, None if it is unknown or there is only one.

    With a tilted gantry it is longer than along the normal of the planes.
    """
    ordered = _order(slices)
    steps = [math.dist(after.position, before.position) for before, after in itertools.pairwise(ordered)]
    return round(statistics.median(steps), 6) if steps else None


def measure_tilt(slices: Sequence[Slice]) -> float:
    """Return the angle in degrees between the normal of the planes and the way from the first slice to the last.

    Example:
        >>> plane = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        >>> places = (0.0, 0.0, 0.0), (0.0, 1.0, 1.0)
        >>> round(measure_tilt([Slice("1", None, place, plane, (9, 9), (1.0, 1.0)) for place in places]), 6)
        45.0
    """
    ordered = _order(slices)
    depths = _list_depths(ordered)
    if len(ordered) < 2 or depths[-1] - depths[0] < SAME_PLACE:
        return 0.0
    length = math.dist(ordered[-1].position, ordered[0].position)
    return math.degrees(math.acos(min(1.0, (depths[-1] - depths[0]) / length)))


def _order(slices: Sequence[Slice]) -> list[Slice]:
    """Return the slices in the order of their places, [] if a place is unknown."""
    if not slices or any(compute_depth(item.position, slices[0].orientation) is None for item in slices):
        return []
    return sorted(slices, key=lambda item: compute_depth(item.position, slices[0].orientation) or 0.0)


def _list_depths(slices: Sequence[Slice]) -> list[float]:
    depths = [compute_depth(item.position, slices[0].orientation) for item in slices]
    return sorted(depth for depth in depths if depth is not None) if None not in depths else []


def find_series_problems(slices: Sequence[Slice]) -> Iterator[tuple[str, str]]:
    """Yield severity and description of each reason why the files (at least one) are not one volume."""
    series = {item.series for item in slices}
    if len(series) > 1:
        yield "error", f"the files belong to {len(series)} series"
    for name, attribute in (("sizes", "shape"), ("pixel spacings", "spacing")):
        counts = Counter(getattr(item, attribute) for item in slices)
        if len(counts) > 1:
            shown = ", ".join(f"{_join(value)} ({number} files)" for value, number in counts.most_common(3))
            yield "error", f"the slices have different {name}: {shown}"
    turned = sum(not _is_same(item.orientation, slices[0].orientation) for item in slices)
    if turned:
        yield "error", f"{turned} of {len(slices)} slices have another orientation than the first"
        return
    depths = _list_depths(slices)
    if depths:
        yield from _find_uneven_steps(depths)
    elif any(item.position for item in slices):
        yield "error", f"{sum(not item.position for item in slices)} of {len(slices)} slices have no position"
    else:
        yield "warning", "the slices have no position; they are taken in order of their instance number"


def find_misplaced_slices(slices: Sequence[Slice]) -> Iterator[tuple[str, str]]:
    """Yield severity and description of each reason why one affine, sheared or not, does not place all slices.

    The slices have no other problem.
    """
    ordered = _order(slices)
    if len(ordered) < 2:
        return
    offsets = list(_measure_offsets(ordered))
    along, sideways = (max(column) for column in zip(*offsets, strict=True))
    if max(along, sideways) > _OFF_LINE:
        how = "unevenly spaced" if along >= sideways else "shifted within their planes"
        off = f"up to {max(along, sideways):.2g} voxels off"
        yield "error", f"the slices are {how}, {off}: no affine places them all"
    claimed = max((abs(item.tilt) for item in ordered if item.tilt is not None), default=0.0)
    if measure_tilt(ordered) < _TILT <= claimed:
        message = f"the header claims a gantry tilt of {claimed:g} degrees, the places of the slices show none"
        yield "warning", f"{message}; taken as corrected"


def _measure_offsets(ordered: Sequence[Slice]) -> Iterator[tuple[float, float]]:
    """Yield how far each slice lies off the even line from the first to the last, along it and sideways, in voxels."""
    depths = _list_depths(ordered)
    first, last, end = ordered[0], ordered[-1], len(ordered) - 1
    step = (depths[-1] - depths[0]) / end
    for index, item in enumerate(ordered):
        share = index / end
        line = [(1 - share) * a + share * b for a, b in zip(first.position, last.position, strict=True)]
        along = abs(depths[index] - depths[0] - index * step)
        sideways = math.sqrt(max(0.0, math.dist(item.position, line) ** 2 - along**2))
        yield along / step, sideways / min(item.spacing or (1.0,))


def _find_uneven_steps(depths: list[float]) -> Iterator[tuple[str, str]]:
    steps = [after - before for before, after in itertools.pairwise(depths)]
    twice = sum(step < SAME_PLACE for step in steps)
    if twice:
        yield "error", f"{twice} slices have the position of another slice"
    real = [step for step in steps if step >= SAME_PLACE]
    if not real:
        return
    # The lower median: in a short series with one gap, the gap must not become the reference.
    usual = statistics.median_low(real)
    gaps = [(place, step) for place, step in zip(depths, steps, strict=False) if step > GAP * usual]
    if gaps:
        missing = sum(round(step / usual) - 1 for _, step in gaps)
        place, step = gaps[0]
        message = f"{missing} slices are missing: the next after {place:.4g} mm is {step:.4g} mm away"
        yield "error", f"{message}, the usual distance is {usual:.4g} mm"
    elif max(real) - min(real) > UNEVEN * usual:
        yield "warning", f"slices are {min(real):.4g} to {max(real):.4g} mm apart; readers take them as evenly spaced"


def _is_same(first: Vector, second: Vector) -> bool:
    return len(first) == len(second) and all(
        math.isclose(a, b, abs_tol=_SAME_DIRECTION) for a, b in zip(first, second, strict=True)
    )


def _join(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values) if values else "none"


def require_folders(cases: Sequence[Case], root: Path, manifest: str | os.PathLike[str]) -> dict[str, str]:
    """Return the absolute folder of each case's series, by case id.

    MONAI reads a series from a folder that contains no other DICOM files. Raises `InputError` if the files of a case
    lie in several folders, or next to those of another series.
    """
    folders = {}
    for case in cases:
        files = [locate_file(root, path) for path in case.image]
        problem = _find_folder_problem(files)
        if problem:
            command = f"dataset convert {os.fspath(manifest)} --dataset_dir {root} --to decathlon -o OUT"
            need = "but MONAI needs a separate folder for each series"
            raise InputError(f"case {case.case_id}: the series {problem}, {need}: python -m pipeline {command}")
        folders[case.case_id] = str(files[0].parent)
    return folders


def _find_folder_problem(files: Sequence[Path]) -> str:
    folder, parents = files[0].parent, {file.parent for file in files}
    if len(parents) > 1:
        return f"lies in {len(parents)} folders"
    foreign = _find_foreign(folder, {file.name for file in files})
    more = f" and {len(foreign) - 1} more DICOM files" if len(foreign) > 1 else ""
    return f"shares {folder} with {foreign[0]}{more}" if foreign else ""


def _find_foreign(folder: Path, own: set[str]) -> list[str]:
    """Return the DICOM files of a folder that do not belong to the series."""
    try:
        others = sorted(path for path in folder.iterdir() if path.name not in own and path.is_file())
        return [path.name for path in others if ImageSource(path).head(132)[128:] == b"DICM"]
    except OSError as error:
        raise InputError(f"cannot read {error.filename or folder}: {(error.strerror or '').lower()}") from None
