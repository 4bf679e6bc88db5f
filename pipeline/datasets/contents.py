"""Checks of a case's images and masks against each other and against the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.datasets.manifest import Case, Manifest
from pipeline.datasets.options import CheckOptions
from pipeline.datasets.probes import Probe, expected_format
from pipeline.issues import Issue


@dataclass(frozen=True)
class CaseView:
    """A case with what was read from its files.

    Args:
        manifest: the manifest of the case.
        case: the case.
        probes: what is known of each readable file, by path; of an annotated mask by path and fragment.
        options: limits and thresholds.
    """

    manifest: Manifest
    case: Case
    probes: Mapping[str, Probe]
    options: CheckOptions = field(default_factory=CheckOptions)

    def error(self, code: str, path: str, message: str, hint: str = "") -> Issue:
        """Return an error about one file of the case."""
        return Issue(code, "error", message, record=self.case.case_id, path=path, hint=hint)

    def warning(self, code: str, path: str, message: str, hint: str = "") -> Issue:
        """Return a warning about one file of the case."""
        return Issue(code, "warning", message, record=self.case.case_id, path=path, hint=hint)


def check_format(view: CaseView) -> Iterator[Issue]:
    """Yield ``suffix-mismatch`` for names that promise another format, ``ndim`` for files of several pages."""
    for path, probe in view.probes.items():
        if expected_format(path) and probe.format not in (expected_format(path), "COCO"):
            yield view.warning("suffix-mismatch", path, f"the name says {expected_format(path)}, it is {probe.format}")
        if probe.pages != 1:
            yield view.error("ndim", path, f"{probe.pages} pages in one file, expected 1")


def check_channels(view: CaseView) -> Iterator[Issue]:
    """Yield ``channels`` for images with another number than the manifest's, ``color-mask`` for coloured masks."""
    wanted = len(view.manifest.channels)
    for path in view.case.image:
        probe = view.probes.get(path)
        if probe and wanted and probe.channels != wanted:
            yield view.error("channels", path, f"{probe.channels} channels, the manifest names {wanted}")
    for path in view.case.label or ():
        probe = view.probes.get(path)
        if probe and probe.channels != 1:
            yield view.error("color-mask", path, f"the mask has {probe.channels} channels, expected 1")


def check_shapes(view: CaseView) -> Iterator[Issue]:
    """Yield ``shape-mismatch`` for images that differ from the manifest's shape or from their own mask."""
    shape = view.case.facts.get("shape")
    for path in view.case.image:
        probe = view.probes.get(path)
        if probe and shape and tuple(shape[: len(probe.shape)]) != probe.shape:
            message = f"the image is {_size(probe.shape)}, the manifest says {_size(tuple(shape[: len(probe.shape)]))}"
            yield view.error("shape-mismatch", path, message)
    for image_path, mask_path in zip(view.case.image, view.case.label or (), strict=False):
        image, mask = view.probes.get(image_path), view.probes.get(mask_path)
        if image and mask and image.shape != mask.shape:
            turned = image.shape == mask.shape[::-1]
            hint = "the mask is transposed" if turned else "the mask must lie on the image's grid"
            message = f"the mask is {_size(mask.shape)}, its image {image_path} is {_size(image.shape)}"
            yield view.error("shape-mismatch", mask_path, message, hint)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)


def check_mask_values(view: CaseView) -> Iterator[Issue]:
    """Yield ``label-values`` for decoded masks with values that the manifest does not know."""
    allowed = view.manifest.mask_values
    for path in view.case.label or ():
        probe = view.probes.get(path)
        if probe is None or probe.content is None or not allowed:
            continue
        counts = probe.content.counts
        wrong = sorted(value for value in counts if value not in allowed)
        if wrong:
            shown = ", ".join(f"{value:g}" for value in wrong[:8]) + (", ..." if len(wrong) > 8 else "")
            pixels = sum(counts[value] for value in wrong)
            known = ", ".join(str(value) for value in allowed)
            message = f"holds {shown} ({pixels} pixels), the manifest allows {known}"
            yield view.error("label-values", path, message, "correct the mask, or mask_values in the manifest")


def check_finite(view: CaseView) -> Iterator[Issue]:
    """Yield ``non-finite`` for decoded files with not-a-number or infinite values."""
    for path, probe in view.probes.items():
        if probe.content and probe.content.non_finite:
            yield view.error("non-finite", path, f"{probe.content.non_finite} values are not finite")


def check_constant(view: CaseView) -> Iterator[Issue]:
    """Yield ``constant-image`` if a whole case has one value only; single black slices are usual."""
    contents = [view.probes[path].content for path in view.case.image if path in view.probes]
    known = [content for content in contents if content]
    if len(known) < len(view.case.image) or not known:
        return
    low, high = min(content.low for content in known), max(content.high for content in known)
    if low == high:
        yield view.warning("constant-image", view.case.image[0], f"every voxel of the case is {low:g}")


def check_foreground(view: CaseView) -> Iterator[Issue]:
    """Yield ``empty-mask`` if a whole case has no foreground, ``foreground`` if it is not the manifest's count."""
    found = count_foreground(view)
    if found is None or view.case.label is None:
        return
    if found == 0:
        yield view.warning("empty-mask", view.case.label[0], "the case has no foreground at all")
    expected = view.case.facts.get("foreground")
    if expected is not None and found != expected:
        message = f"{found} foreground voxels, the manifest says {expected}"
        yield view.error("foreground", view.case.label[0], message, "build the manifest again if the masks are right")


def count_foreground(view: CaseView) -> int | None:
    """Return the number of voxels of the case that are not background, None if not all masks were decoded."""
    voxels = count_labels(view)
    return None if voxels is None else sum(number for label, number in voxels.items() if label != 0)


def count_labels(view: CaseView) -> dict[int, int] | None:
    """Return the number of voxels of each label id, None without masks or if not all were decoded.

    Values become labels by the manifest's rules; the ignored value is left out, an unknown one counts as itself.
    """
    total: Counter[int] = Counter()
    for path in view.case.label or ():
        probe = view.probes.get(path)
        if probe is None or probe.content is None:
            return None
        for value, number in probe.content.counts.items():
            if value != view.manifest.ignore_index:
                total[_label_of(view.manifest, value)] += number
    return dict(total) if view.case.label else None


def _label_of(manifest: Manifest, value: float) -> int:
    if manifest.binarize is not None:
        return int(value >= manifest.binarize)
    # Masks hold whole numbers; a broken one is reported by check_mask_values.
    return manifest.mask_values.get(int(value), int(value))


# One line a check; each gets a case with what was read and yields its findings.
CASE_CHECKS: tuple[Callable[[CaseView], Iterator[Issue]], ...] = (
    check_format,
    check_channels,
    check_shapes,
    check_mask_values,
    check_finite,
    check_constant,
    check_foreground,
)
