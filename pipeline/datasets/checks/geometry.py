"""Checks of geometry: grids of image and mask, affines, orientations, voxel sizes, slices of DICOM series."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.datasets.checks.case_view import CaseView, format_size
from pipeline.datasets.probes import VOLUMES, Probe
from pipeline.datasets.probes.dicom_series import (
    Slice,
    find_misplaced_slices,
    find_series_problems,
    measure_step,
)
from pipeline.issues import Issue

# Corners of image and mask further apart than this, in mm, mean different grids.
SAME_PLACE = 1e-3
# Rounding error in mm of an origin some hundred millimetres away in single precision; not reported.
ROUNDING = 1e-4
# Voxel sizes that differ from the median of their axis by a larger factor are outliers.
OUTLIER = 2.0
_MIN_COHORT = 3
_COMPLETE = "restore the missing files and remove others, then build the manifest again"
_RESLICE = "resample the series to even slices in one direction, or leave it out"
_INVERT = "set MONOCHROME2, after inverting the stored values unless they are physical (Hounsfield units)"
_RESAMPLE = "resample the mask onto the image's grid, or copy the image's header if only the header is wrong"


def check_dimensions(view: CaseView) -> Iterator[Issue]:
    """Yield ``ndim`` for volumes whose fourth axis differs from the manifest's channels."""
    wanted = 1 if view.manifest.stacking == "channels" else len(view.manifest.channels)
    for pairs, number in ((view.images(), wanted), (view.masks(), 1)):
        for path, probe in pairs:
            if has_fourth_axis(probe) and probe.channels != number and (number or probe.channels == 1):
                message = f"the volume has a fourth axis of {probe.channels}, expected {number}"
                hint = "split it into volumes, or name its channels in the manifest"
                yield view.error("ndim", path, message, hint)


def has_fourth_axis(probe: Probe) -> bool:
    """Return whether a file is a volume with a fourth axis: channels or time."""
    return int(probe.header.get("ndim", 0)) > 3


def check_grids(view: CaseView) -> Iterator[Issue]:
    """Yield ``geometry-mismatch`` for masks and channels on another grid than the image, or other voxel sizes."""
    images, masks = view.case.image, view.case.label or ()
    pairs = list(zip(images, masks, strict=False))
    if view.manifest.stacking == "channels":
        pairs = [(images[0], other) for other in (*images[1:], *masks)]
    for image_path, path in pairs:
        image, other = view.probes.get(image_path), view.probes.get(path)
        if image and other and image.affine and other.affine and image.shape == other.shape:
            yield from _compare_places(view, image_path, image, path, other)
    yield from _check_spacing(view)


def _compare_places(view: CaseView, image_path: str, image: Probe, path: str, other: Probe) -> Iterator[Issue]:
    from pipeline.datasets.probes.nifti_affine import measure_distance

    distance = measure_distance(image.affine, other.affine, image.shape)
    if distance <= ROUNDING:
        return
    message = f"lies up to {distance:.3g} mm away from the grid of {image_path}"
    message += f" (voxels of {format_size(other.spacing)} and {format_size(image.spacing)} mm)"
    report = view.error if distance > SAME_PLACE else view.warning
    yield report("geometry-mismatch", path, message, _RESAMPLE)


def _check_spacing(view: CaseView) -> Iterator[Issue]:
    expected, found = view.case.facts.get("spacing"), measure_spacing(view)
    if not expected or not found or len(expected) != len(found):
        return
    if any(abs(a - b) > SAME_PLACE for a, b in zip(expected, found, strict=True)):
        message = f"the voxels are {format_size(found)} mm, the manifest says {format_size(expected)} mm"
        hint = "build the manifest again if the image is correct"
        yield view.error("geometry-mismatch", view.case.image[0], message, hint)


def measure_spacing(view: CaseView) -> tuple[float, ...]:
    """Return the voxel size of a case in mm along the axes of its shape, () if unknown."""
    first = view.probes.get(view.case.image[0])
    if first is None or not first.spacing:
        return ()
    if view.manifest.stacking != "series" or len(view.case.image) == 1:
        return first.spacing
    step = measure_step(_list_slices(view))
    return (*first.spacing, step) if step else ()


def measure_shape(view: CaseView) -> tuple[int, ...]:
    """Return the size of a case in voxels, () if unknown."""
    first = view.probes.get(view.case.image[0])
    if first is None:
        return ()
    stacked = view.manifest.stacking in ("slices", "series") and len(view.case.image) > 1
    return (*first.shape, len(view.case.image)) if stacked else first.shape


def check_affines(view: CaseView) -> Iterator[Issue]:
    """Yield ``affine`` for headers with an invalid, missing or ambiguous position; readers would differ."""
    for path, probe in view.probes.items():
        header = probe.header
        if header.get("affine_problem"):
            nifti = "a valid sform and qform (nibabel: set_sform, set_qform)"
            hint = f"write {nifti if probe.format == 'NIfTI' else 'valid directions'}, or leave the case out"
            yield view.error("affine", path, str(header["affine_problem"]), hint)
        elif (header.get("sform_qform_distance") or 0) > SAME_PLACE:
            message = f"sform and qform place corners {header['sform_qform_distance']:.3g} mm apart"
            hint = "nibabel uses the sform, ITK the qform; find out which is correct and write it to both"
            yield view.warning("affine", path, message, hint)
        elif probe.format == "NIfTI" and not header.get("sform_code") and not header.get("qform_code"):
            message = "neither sform nor qform is set, so each reader assumes its own orientation"
            yield view.warning("affine", path, message, "write the correct one to both (nibabel: set_sform, set_qform)")


def check_axis_order(view: CaseView) -> Iterator[Issue]:
    """Yield ``axis-order`` once for an image and a mask in formats whose readers order axes differently."""
    for image_path, path in view.pairs():
        image, mask = view.probes.get(image_path), view.probes.get(path)
        if image is None or mask is None or "COCO" in (image.format, mask.format):
            continue
        if _axis_family(image) != _axis_family(mask):
            square = ", and the size is square, so it does not show this" if len({*image.shape}) == 1 else ""
            message = (
                f"the mask is {mask.format}, its image {image.format}: their readers order axes differently{square}"
            )
            yield view.warning("axis-order", path, message, "save both in one format")
            return


def _axis_family(probe: Probe) -> str:
    return "NIfTI" if probe.format in VOLUMES else "DICOM" if probe.format == "DICOM" else "picture"


def check_patch(view: CaseView) -> Iterator[Issue]:
    """Yield ``smaller-than-patch`` and ``not-divisible`` for sizes that do not fit the given patch or network."""
    shape = measure_shape(view)
    roi = view.options.roi_size
    if shape and any(length < wanted for length, wanted in zip(shape, roi, strict=False)):
        message = f"the image is {format_size(shape)}, smaller than the patch {format_size(roi)}"
        hint = f"add SpatialPadd with spatial_size {list(roi)}, or choose a smaller roi_size"
        yield view.warning("smaller-than-patch", view.case.image[0], message, hint)
    divisor = view.options.divisible_by
    if shape and divisor > 1 and any(length % divisor for length in shape):
        message = f"the image is {format_size(shape)}, not divisible by {divisor}"
        hint = f"add DivisiblePadd with k {divisor}, or train on patches whose size is divisible"
        yield view.warning("not-divisible", view.case.image[0], message, hint)


def check_series(view: CaseView) -> Iterator[Issue]:
    """Yield ``dicom-series`` for files that are not one volume, ``slice-places`` for slices off an even line."""
    if view.manifest.stacking != "series" or len(list(view.images())) < len(view.case.image):
        return
    slices = _list_slices(view)
    problems = [("dicom-series", _COMPLETE, *found) for found in find_series_problems(slices)]
    if not any(severity == "error" for _, _, severity, _ in problems):
        problems += [("slice-places", _RESLICE, *found) for found in find_misplaced_slices(slices)]
    for code, hint, severity, message in problems:
        report = view.error if severity == "error" else view.warning
        yield report(code, view.case.image[0], message, hint)


def check_grey_scale(view: CaseView) -> Iterator[Issue]:
    """Yield ``image-mode`` for the first DICOM file whose low values are bright: some readers invert it, others not."""
    for path, probe in view.probes.items():
        if probe.format == "DICOM" and probe.header.get("inverted"):
            message = "the grey scale is inverted (MONOCHROME1), which some readers undo and others do not"
            yield view.error("image-mode", path, message, _INVERT)
            return


def _list_slices(view: CaseView) -> list[Slice]:
    return [
        Slice(
            series=str(probe.header.get("series", "")),
            instance=probe.header.get("instance"),
            position=tuple(probe.header.get("position", ())),
            orientation=tuple(probe.header.get("orientation", ())),
            shape=probe.shape,
            spacing=probe.spacing,
            tilt=probe.header.get("tilt"),
        )
        for _, probe in view.images()
    ]


def find_mixed_orientations(views: Sequence[CaseView]) -> Iterator[Issue]:
    """Yield ``orientation-mixed`` once, if the axes of the volumes have different orientations."""
    first: dict[str, tuple[CaseView, str]] = {}
    counts: Counter[str] = Counter()
    for view in views:
        for path, probe in view.images():
            orientation = probe.header.get("orientation")
            if isinstance(orientation, str) and orientation:
                counts[orientation] += 1
                first.setdefault(orientation, (view, path))
    if len(counts) > 1:
        shown = ", ".join(f"{name} ({number})" for name, number in counts.most_common())
        view, path = first[counts.most_common()[-1][0]]
        hint = f'put Orientationd(axcodes="{counts.most_common(1)[0][0]}") first among the transforms'
        yield view.warning(
            "orientation-mixed", path, f"the axes of the images have different orientations: {shown}", hint
        )


def find_spacing_outliers(views: Sequence[CaseView]) -> Iterator[Issue]:
    """Yield ``spacing-outlier`` once, with quantiles, if voxel sizes are far from the median of their axis."""
    known = [(view, spacing) for view in views if (spacing := measure_spacing(view))]
    axes = Counter(len(spacing) for _, spacing in known).most_common(1)
    rows = [(view, spacing) for view, spacing in known if axes and len(spacing) == axes[0][0]]
    if len(rows) < _MIN_COHORT:
        return
    columns = list(zip(*(spacing for _, spacing in rows), strict=True))
    medians = [statistics.median(column) for column in columns]
    outliers = [
        (view, spacing)
        for view, spacing in rows
        if any(max(a / m, m / a) > OUTLIER for a, m in zip(spacing, medians, strict=True))
    ]
    if outliers:
        view, spacing = outliers[0]
        table = "; ".join(f"axis {axis}: {_quantiles(column)}" for axis, column in enumerate(columns))
        message = f"{len(outliers)} of {len(rows)} cases have unusual voxel sizes, here {format_size(spacing)} mm"
        message += f" (5, 50, 95 % in mm: {table})"
        hint = "resample all to one voxel size (Spacingd), or leave these out"
        yield view.warning("spacing-outlier", view.case.image[0], message, hint)


def _quantiles(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in pick_quantiles(values, (0.05, 0.5, 0.95)))


def pick_quantiles(values: Sequence[float], shares: Sequence[float]) -> list[float]:
    """Return the nearest existing value of each quantile.

    Example:
        >>> pick_quantiles([3.0, 1.0, 2.0], (0.0, 0.5, 1.0))
        [1.0, 2.0, 3.0]
    """
    ordered = sorted(values)
    return [ordered[round(share * (len(ordered) - 1))] for share in shares]
