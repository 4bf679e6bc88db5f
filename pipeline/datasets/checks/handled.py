"""Counts of files that are unusual but valid, and how they are handled."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.datasets.checks.case_view import CaseView
from pipeline.datasets.files import locate_file
from pipeline.datasets.probes import Probe

# Text, and function of (view, path, probe) that selects its files.
HANDLED: tuple[tuple[str, Callable[[CaseView, str, Probe], bool]], ...] = (
    ("masks with a palette, read by index", lambda view, _, p: "palette" in p.header and not view.manifest.color_map),
    ("masks read by colour", lambda view, path, p: _is_mask(view, path) and _is_coloured(view, p)),
    (
        "JPEG masks read with a threshold",
        lambda view, path, p: _is_mask(view, path) and p.format == "JPEG" and view.manifest.binarize is not None,
    ),
    (
        "images with an opaque alpha channel, which DropAlphad drops",
        lambda view, _, p: p.header.get("alpha") == "opaque" and p.channels != len(view.manifest.channels),
    ),
    ("files stored with 1 bit per pixel", lambda view, _, p: p.header.get("mode") == "1"),
    (
        "pictures whose grey scale is inverted, which Pillow applies",
        lambda view, path, p: (
            not _is_mask(view, path) and "inverted" in p.header and p.header.get("mode") in ("1", "L")
        ),
    ),
    ("files stored with the high byte first", lambda view, _, p: p.header.get("mode") == "I;16B"),
)
OTHER_FORM = "files whose names have another Unicode form on the disk"


def count_handled(views: Iterable[CaseView], root: Path) -> dict[str, int]:
    """Return the number of files of a dataset by the way in which they are handled, without zeros."""
    counts: Counter[str] = Counter()
    for view in views:
        counts[OTHER_FORM] += sum(locate_file(root, file) != root / file for file in view.case.files())
        for path, probe in view.probes.items():
            counts.update(text for text, applies in HANDLED if applies(view, path, probe))
    return {text: counts[text] for text in (*(text for text, _ in HANDLED), OTHER_FORM) if counts[text]}


def _is_coloured(view: CaseView, probe: Probe) -> bool:
    return bool(view.manifest.color_map) and (probe.channels > 1 or "palette" in probe.header)


def _is_mask(view: CaseView, path: str) -> bool:
    return path in (view.case.label or ())
