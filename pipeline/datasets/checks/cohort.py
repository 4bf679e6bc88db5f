"""Checks across all cases of a dataset, after their files were read."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from pipeline.datasets.checks.case_view import CaseView, count_foreground, uses_colours
from pipeline.datasets.checks.leaks.manifest_leaks import is_bare_header
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.probes import Probe
from pipeline.issues import Issue

# Two masks with fewer foreground voxels may be equal by chance.
_MIN_SHARED = 64


def find_empty_splits(views: Sequence[CaseView]) -> Iterator[Issue]:
    """Yield ``empty-mask`` for each split whose masks have no foreground, so that it cannot be scored.

    Only splits whose cases were all read are checked.
    """
    by_split: dict[str, list[int | None]] = defaultdict(list)
    first: dict[str, CaseView] = {}
    for view in views:
        if view.case.label is not None:
            by_split[view.case.split].append(count_foreground(view))
            first.setdefault(view.case.split, view)
    for split in ("train", "val", "test"):
        counts = by_split.get(split, [])
        if counts and all(count == 0 for count in counts) and len(counts) == _count_masks(views[0].manifest, split):
            message = f"all {len(counts)} masks of the split {split} are empty"
            path = (first[split].case.label or ("",))[0]
            hint = "check whether the masks were exported"
            yield Issue("empty-mask", "error", message, record=split, path=path, hint=hint)


def _count_masks(manifest: Manifest, split: str) -> int:
    return sum(case.split == split and case.label is not None for case in manifest.cases)


def find_unknown_palettes(views: Sequence[CaseView]) -> Iterator[Issue]:
    """Yield ``palette-unknown`` once, if coloured palette masks are read by index and no ``color_map`` is given."""
    coloured = [
        (view, path, probe)
        for view in views
        for path, probe in view.masks()
        if "palette" in probe.header and not uses_colours(view.manifest, probe) and not _is_grey(probe)
    ]
    if coloured:
        view, path, _ = coloured[0]
        palettes = {tuple(probe.header["palette"]) for _, _, probe in coloured}
        message = f"{len(coloured)} palette masks are read by index, their colours are ignored"
        if len(palettes) > 1:
            message += f", and they have {len(palettes)} different palettes"
        hint = 'declare the colours in the manifest: "color_map": {"#ff0000": 1, ...}'
        yield view.warning("palette-unknown", path, message, hint)


def _is_grey(probe: Probe) -> bool:
    return all(colour[1:3] == colour[3:5] == colour[5:7] for colour in probe.header["palette"])


def find_mixed_types(views: Sequence[CaseView]) -> Iterator[Issue]:
    """Yield ``intensity-range`` once, if images have different numeric types and no range is declared."""
    found = [(view, path, probe.dtype) for view in views for path, probe in view.images() if probe.dtype]
    counts = Counter(dtype for _, _, dtype in found)
    if len(counts) < 2 or views[0].manifest.intensity_range is not None:
        return
    rare = min(counts, key=lambda dtype: (counts[dtype], dtype))
    view, path, _ = next(entry for entry in found if entry[2] == rare)
    shares = ", ".join(f"{number} {dtype}" for dtype, number in counts.most_common())
    message = f"images are stored in different types ({shares}), so one scale does not fit all"
    yield view.warning(
        "intensity-range", path, message, "scale each image by its own range, or declare intensity_range"
    )


def find_shared_masks(views: Sequence[CaseView]) -> Iterator[Issue]:
    """Yield ``shared-mask`` for decoded masks with the same bytes as the mask of another subject."""
    first: dict[str, tuple[CaseView, str]] = {}
    for view in views:
        for path, probe in view.masks():
            digest = None if is_bare_header(path) else view.case.sha256.get(path)
            if digest is None or probe.content is None or _count_other_values(probe) < _MIN_SHARED:
                continue
            other, other_path = first.setdefault(digest, (view, path))
            if other.case.subject_key() != view.case.subject_key() and other_path != path:
                message = f"the same mask as {other_path} [{other.case.case_id}]"
                yield view.warning("shared-mask", path, message, "give each image its own mask")


def _count_other_values(probe: Probe) -> int:
    counts = probe.content.counts if probe.content else {}
    return sum(counts.values()) - max(counts.values(), default=0)
