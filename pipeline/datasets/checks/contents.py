"""Checks of a case's images and masks against each other and against the manifest, and the table of all checks."""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from pipeline.datasets.checks import geometry, image_files, masks
from pipeline.datasets.checks.case_view import CaseView, format_size
from pipeline.datasets.probes import expected_format
from pipeline.issues import Issue


def check_format(view: CaseView) -> Iterator[Issue]:
    """Yield ``suffix-mismatch`` for names of another format than the file's, ``ndim`` for files with several pages."""
    for path, probe in view.probes.items():
        wanted = expected_format(path)
        if wanted and probe.format not in (wanted, "COCO"):
            name = PurePosixPath(path).name
            message = f"the name {name} stands for {wanted}, the file is {probe.format}"
            yield view.warning("suffix-mismatch", path, message, "rename the file, then build the manifest again")
        if probe.pages != 1:
            message = f"{probe.pages} pages in one file, expected 1"
            yield view.error("ndim", path, message, "save one file per page, or a volume as NIfTI")


def check_channels(view: CaseView) -> Iterator[Issue]:
    """Yield ``channels`` for images with another number of channels than the manifest, not counting alpha."""
    wanted = len(view.manifest.channels) if view.manifest.stacking != "channels" else 1
    for path, probe in view.images():
        found = {probe.channels, probe.channels - (probe.header.get("mode") in ("RGBA", "LA"))}
        if wanted and wanted not in found and not geometry.has_fourth_axis(probe):
            hint = "save all images in colour or all in grey (Pillow: image.convert), then build the manifest again"
            yield view.error("channels", path, f"{probe.channels} channels, the manifest names {wanted}", hint)


def check_shapes(view: CaseView) -> Iterator[Issue]:
    """Yield ``shape-mismatch`` for images that differ from the manifest's shape or from their own mask."""
    shape = view.case.facts.get("shape")
    for path, probe in view.images():
        expected = tuple(shape[: len(probe.shape)]) if shape else probe.shape
        if expected != probe.shape:
            message = f"the image is {format_size(probe.shape)}, the manifest says {format_size(expected)}"
            yield view.error("shape-mismatch", path, message, "build the manifest again if the image is correct")
    for image_path, mask_path in view.pairs():
        image, mask = view.probes.get(image_path), view.probes.get(mask_path)
        if image and mask and image.shape != mask.shape:
            turned = image.shape == mask.shape[::-1]
            hint = "the mask is transposed" if turned else "the mask must have the image's grid"
            message = f"the mask is {format_size(mask.shape)}, its image {image_path} is {format_size(image.shape)}"
            yield view.error("shape-mismatch", mask_path, message, hint)


def check_finite(view: CaseView) -> Iterator[Issue]:
    """Yield ``non-finite`` for decoded files with NaN or infinite values."""
    for path, probe in view.probes.items():
        if probe.content and probe.content.non_finite:
            first = ", ".join(str(index) for index in probe.content.first_non_finite)
            message = f"{probe.content.non_finite} values are not finite, the first at index ({first})"
            yield view.error("non-finite", path, message, "replace them, or leave the case out")


def check_constant(view: CaseView) -> Iterator[Issue]:
    """Yield ``constant-image`` if all voxels of a case have one value; single black slices are usual."""
    contents = [probe.content for _, probe in view.images()]
    known = [content for content in contents if content]
    if len(known) < len(view.case.image) or not known:
        return
    low, high = min(content.low for content in known), max(content.high for content in known)
    if low == high:
        message = f"every voxel of the case is {low:g}"
        yield view.warning("constant-image", view.case.image[0], message, "leave the case out unless this is intended")


def check_intensity(view: CaseView) -> Iterator[Issue]:
    """Yield ``intensity-range`` for decoded images outside the declared range, or negative pictures without one."""
    declared = view.manifest.intensity_range
    for path, probe in view.images():
        content = probe.content
        if content is None:
            continue
        if declared is not None and (content.low < declared[0] or content.high > declared[1]):
            message = (
                f"values from {content.low:g} to {content.high:g}, the manifest says {declared[0]:g} to {declared[1]:g}"
            )
            yield view.warning("intensity-range", path, message, "scale by the real range, or correct intensity_range")
        elif declared is None and content.low < 0 and "mode" in probe.header:
            message = f"a picture has negative values, from {content.low:g} to {content.high:g}"
            yield view.warning("intensity-range", path, message, "declare intensity_range in the manifest")


# One line per check, which gets a case and yields its findings.
CASE_CHECKS: tuple[Callable[[CaseView], Iterator[Issue]], ...] = (
    check_format,
    image_files.check_image_mode,
    check_channels,
    geometry.check_dimensions,
    image_files.check_alpha,
    image_files.check_garbled,
    image_files.check_inversion,
    image_files.check_orientation,
    check_shapes,
    geometry.check_grids,
    geometry.check_affines,
    geometry.check_axis_order,
    geometry.check_patch,
    geometry.check_series,
    geometry.check_grey_scale,
    *masks.VALUE_CHECKS,
    check_finite,
    check_constant,
    check_intensity,
    masks.check_foreground,
)
