"""Checks of masks: encoding, values, amount of foreground."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from pipeline.datasets.checks.case_view import CaseView, count_labels, has_colours, name_colour, uses_colours
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.probes import Probe
from pipeline.issues import Issue

_SHOWN = 8
# More values than this are blurred borders or numbers of objects, not labels.
_MOST_LABELS = 32


def check_mask_encoding(view: CaseView) -> Iterator[Issue]:
    """Yield ``lossy-mask`` for JPEG masks and ``color-mask`` for colours that the manifest does not define."""
    for path, probe in view.masks():
        if probe.format == "JPEG" and view.manifest.binarize is None:
            message = "the mask is a JPEG, whose compression changes values"
            hint = 'save it as PNG, or declare "binarize": 128 in the manifest (values of at least 128 are label 1)'
            yield view.error("lossy-mask", path, message, hint)
        if _has_channels(probe) and not (has_colours(probe) and view.manifest.color_map):
            message = f"the mask has {probe.channels} channels, expected grey"
            hint = 'save it as 8-bit grey, or declare its colours in the manifest: "color_map": {"#ffffff": 1, ...}'
            yield view.error("color-mask", path, message, hint)


def _has_channels(probe: Probe) -> bool:
    """Return whether a mask has several channels that differ; those of a picture are known once it is decoded."""
    known = probe.content is not None or "mode" not in probe.header
    return probe.channels != 1 and probe.header.get("ndim", 0) <= 3 and known and not probe.header.get("grey")


def check_whole_numbers(view: CaseView) -> Iterator[Issue]:
    """Yield ``non-integer-label`` for decoded masks with fractions, which come from scaling or interpolation."""
    if view.manifest.binarize is not None:
        return
    for path, probe in view.masks():
        fractions = [value for value in probe.content.counts if value % 1] if probe.content else []
        if fractions:
            message = f"holds {_show(fractions)}, label ids are integers"
            hint = "resample masks with nearest neighbours; in NIfTI check scl_slope"
            yield view.error("non-integer-label", path, message, hint)


def check_label_values(view: CaseView) -> Iterator[Issue]:
    """Yield ``label-values`` for decoded masks with values that the manifest does not define."""
    for path, probe in view.masks():
        allowed = _allowed_values(view.manifest, probe)
        if probe.content is None or allowed is None:
            continue
        counts = probe.content.counts
        wrong = sorted(value for value in counts if not value % 1 and value not in allowed)
        if wrong:
            pixels = sum(counts[value] for value in wrong)
            message = f"holds {_show(wrong)} ({pixels} pixels), the manifest allows {_show(sorted(allowed))}"
            hint = propose_values(view.manifest, counts)
            if wrong == [255] and "--mask-values" not in hint:
                hint += '; if 255 means "do not score": "ignore_index": 255'
            yield view.error("label-values", path, message, hint)
    yield from _check_colours(view)
    yield from _check_threshold(view)


def _allowed_values(manifest: Manifest, probe: Probe) -> set[int] | None:
    """Return the values that a mask may hold, None if any is allowed or another check reads them."""
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
        wrong = [name for name in names if name not in known]
        if wrong:
            pixels = sum(names[name] for name in wrong)
            message = f"holds {_show(wrong)} ({pixels} pixels), the manifest's color_map has {', '.join(sorted(known))}"
            yield view.error("label-values", path, message, "correct the mask, or color_map in the manifest")


def _check_threshold(view: CaseView) -> Iterator[Issue]:
    """Yield ``label-values`` for masks of two values that a threshold for blurred masks would make empty."""
    threshold = view.manifest.binarize
    for path, probe in view.masks():
        values = probe.content.counts if probe.content else {}
        if threshold is not None and probe.format != "JPEG" and len(values) == 2 and max(values) < threshold:
            message = f"holds {_show(list(values))}, all below the threshold {threshold:g}, so its foreground is lost"
            typed = ",".join(f"{value:g}" for value in sorted(values))
            hint = f"save it with 0 and 255; if no mask is blurred, --mask-values {typed} instead of --binarize"
            yield view.error("label-values", path, message, hint)


def propose_values(manifest: Manifest, values: Iterable[float]) -> str:
    """Return what to do about masks with other values than the manifest's: the option to type where there is one.

    Args:
        manifest: the dataset; only the layout ``folders`` leaves the values to the user.
        values: of the masks.

    Example:
        >>> labels = {0: "background", 1: "cell"}
        >>> manifest = Manifest("x", "segmentation", "", "", labels, {0: 0, 1: 1}, (), (), layout="folders")
        >>> propose_values(manifest, [0, 255])
        'build the manifest with --mask-values 0,255=cell'
    """
    found, names = sorted(values), [name for _, name in sorted(manifest.labels.items())]
    if manifest.layout != "folders" or len(found) < 2 or found[0] < 0:
        return "correct the mask, or mask_values in the manifest"
    if len(found) > _MOST_LABELS or any(value % 1 for value in found):
        return "build the manifest with --binarize 128 if the borders are blurred, or correct the masks"
    given = names if len(names) == len(found) else ["" for _ in found]
    words = [f"{value:g}={name}" if name and value else f"{value:g}" for value, name in zip(found, given, strict=True)]
    return f"build the manifest with --mask-values {shlex.quote(','.join(words))}"


def _show(values: Sequence[float] | Sequence[str]) -> str:
    shown = [value if isinstance(value, str) else f"{value:g}" for value in sorted(values)[:_SHOWN]]
    return ", ".join(shown) + (", ..." if len(values) > _SHOWN else "")


# What a few masks show of all: the default check decodes only a sample of them.
VALUE_CHECKS: tuple[Callable[[CaseView], Iterator[Issue]], ...] = (
    check_mask_encoding,
    check_whole_numbers,
    check_label_values,
)


def check_foreground(view: CaseView) -> Iterator[Issue]:
    """Yield ``empty-mask`` or ``full-mask`` for whole cases, ``foreground`` if the count differs from the manifest."""
    voxels = count_labels(view)
    if voxels is None or view.case.label is None:
        return
    total = sum(voxels.values())
    found = total - voxels.get(0, 0)
    if found == 0:
        yield view.warning("empty-mask", view.case.label[0], "the case has no foreground")
    elif found == total:
        message = f"all {total} voxels of the case are foreground"
        yield view.warning("full-mask", view.case.label[0], message, "check whether the mask is inverted")
    expected = view.case.facts.get("foreground")
    if expected is not None and found != expected:
        message = f"{found} foreground voxels, the manifest says {expected}"
        yield view.error("foreground", view.case.label[0], message, "build the manifest again if the masks are correct")
