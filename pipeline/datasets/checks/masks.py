"""Checks of masks: how they are stored, which values they hold, how much foreground they have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.datasets.checks.case_view import CaseView, count_labels, has_colours, name_colour, uses_colours
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.probes import Probe
from pipeline.issues import Issue

_SHOWN = 8


def check_mask_encoding(view: CaseView) -> Iterator[Issue]:
    """Yield ``lossy-mask`` for JPEG masks and ``color-mask`` for coloured ones that the manifest does not explain."""
    for path, probe in view.masks():
        if probe.format == "JPEG" and view.manifest.binarize is None:
            message = "the mask is a JPEG, whose values are not the ones that were drawn"
            hint = 'save it as PNG, or declare "binarize": 128 in the manifest (values from it on are label 1)'
            yield view.error("lossy-mask", path, message, hint)
        if (
            probe.channels != 1
            and probe.header.get("ndim", 0) <= 3
            and not (has_colours(probe) and view.manifest.color_map)
        ):
            message = f"the mask has {probe.channels} channels, expected 1"
            hint = 'save it as 8-bit grey, or declare its colours in the manifest: "color_map": {"#ffffff": 1, ...}'
            yield view.error("color-mask", path, message, hint)


def check_whole_numbers(view: CaseView) -> Iterator[Issue]:
    """Yield ``non-integer-label`` for decoded masks with fractions: scaled on the way in, or interpolated."""
    if view.manifest.binarize is not None:
        return
    for path, probe in view.masks():
        fractions = [value for value in probe.content.counts if value % 1] if probe.content else []
        if fractions:
            message = f"holds {_show(fractions)}, label ids are whole numbers"
            hint = "resample masks with nearest neighbours; in NIfTI look at scl_slope"
            yield view.error("non-integer-label", path, message, hint)


def check_label_values(view: CaseView) -> Iterator[Issue]:
    """Yield ``label-values`` for decoded masks with values that the manifest does not know."""
    for path, probe in view.masks():
        allowed = _allowed_values(view.manifest, probe)
        if probe.content is None or allowed is None:
            continue
        counts = probe.content.counts
        wrong = sorted(value for value in counts if not value % 1 and value not in allowed)
        if wrong:
            pixels = sum(counts[value] for value in wrong)
            message = f"holds {_show(wrong)} ({pixels} pixels), the manifest allows {_show(sorted(allowed))}"
            hint = "correct the mask, or mask_values in the manifest"
            if wrong == [255]:
                hint += '; if 255 means "do not score": "ignore_index": 255'
            yield view.error("label-values", path, message, hint)
    yield from _check_colours(view)


def _allowed_values(manifest: Manifest, probe: Probe) -> set[int] | None:
    """Return the values that a mask may hold, None if any is right or another check looks at them."""
    coloured = uses_colours(manifest, probe) or has_colours(probe)
    if coloured or manifest.binarize is not None or manifest.mask_type == "instance":
        return None
    allowed = set(manifest.mask_values or manifest.labels)
    return allowed | ({manifest.ignore_index} if manifest.ignore_index is not None else set()) if allowed else None


def _check_colours(view: CaseView) -> Iterator[Issue]:
    known = view.manifest.color_map
    for path, probe in view.masks():
        if probe.content is None or not uses_colours(view.manifest, probe):
            continue
        names = {name_colour(probe, value): number for value, number in probe.content.counts.items()}
        wrong = sorted(name for name in names if name not in known)
        if wrong:
            shown = ", ".join(wrong[:_SHOWN]) + (", ..." if len(wrong) > _SHOWN else "")
            pixels = sum(names[name] for name in wrong)
            message = f"holds {shown} ({pixels} pixels), the manifest's color_map knows {', '.join(sorted(known))}"
            yield view.error("label-values", path, message, "correct the mask, or color_map in the manifest")


def _show(values: Iterable[float]) -> str:
    ordered = sorted(values)
    return ", ".join(f"{value:g}" for value in ordered[:_SHOWN]) + (", ..." if len(ordered) > _SHOWN else "")


def check_foreground(view: CaseView) -> Iterator[Issue]:
    """Yield ``empty-mask`` or ``full-mask`` for whole cases, ``foreground`` if it is not the manifest's count."""
    voxels = count_labels(view)
    if voxels is None or view.case.label is None:
        return
    total = sum(voxels.values())
    found = total - voxels.get(0, 0)
    if found == 0:
        yield view.warning("empty-mask", view.case.label[0], "the case has no foreground at all")
    elif found == total:
        message = f"all {total} voxels of the case are foreground"
        yield view.warning("full-mask", view.case.label[0], message, "look whether the mask is inverted")
    expected = view.case.facts.get("foreground")
    if expected is not None and found != expected:
        message = f"{found} foreground voxels, the manifest says {expected}"
        yield view.error("foreground", view.case.label[0], message, "build the manifest again if the masks are right")
