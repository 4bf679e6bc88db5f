"""The result of a dataset check as one HTML file: findings by code, counts by split, sizes, pictures of leaks.

The file is self-contained: no script, no network, pictures included. File names are untrusted, so all text is escaped
and isolated from the text around it.
"""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.checks.geometry import pick_quantiles
from pipeline.datasets.checks.integrity import Report, count_splits
from pipeline.datasets.checks.leaks.copies import count_blank_images, list_images
from pipeline.datasets.checks.leaks.manifest_leaks import Leak, name_part
from pipeline.datasets.manifests.manifest import Case, Manifest, normalise_subject
from pipeline.issues import Issue
from pipeline.reports.pages import render_template, write_page
from pipeline.reports.thumbnails import draw_data_uri

MAX_PAIRS = 40  # drawn per code; two pictures of at most 256 x 256 take 20 to 60 kB
MAX_ROWS = 500  # findings listed per code
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Side:
    """One picture of a pair."""

    path: str  #: the file
    record: str  #: its case
    part: str  #: split or fold of the case
    picture: str  #: data URI, "" if it cannot be drawn


@dataclass(frozen=True)
class Group:
    """The findings of one code."""

    code: str  #: the code
    severity: str  #: of its first finding
    issues: Sequence[Issue]  #: the findings that are listed
    number: int  #: number of all findings
    #: the findings that are drawn, each with the other file and the file that it names
    pairs: Sequence[tuple[Leak, Sequence[Side]]]


def write_html(
    report: Report, path: str | os.PathLike[str], *, title: str, manifest: Manifest | None, root: Path
) -> Path:
    """Write the HTML report of a check, completely or not at all, and return its path.

    Args:
        report: the findings.
        path: the HTML file.
        title: the dataset and the kind of check.
        manifest: the manifest; None if it could not be read.
        root: the dataset's folder, with the images for the pictures.

    Raises:
        OSError: the file cannot be written.
    """
    return write_page(render_html(report, title=title, manifest=manifest, root=root), path)


def render_html(report: Report, *, title: str, manifest: Manifest | None, root: Path) -> str:
    """Return the page as text; see `write_html`."""
    views = [result.view for result in report.results if result.view is not None]
    compared = list_images(views)
    return render_template(
        "dataset.html",
        title=title,
        manifest=manifest,
        groups=group_issues(report.issues, manifest, root),
        errors=len(report.errors()),
        warnings=len(report.issues) - len(report.errors()),
        splits=count_splits(report),
        subjects_known=any(normalise_subject(result.case.subject) for result in report.results),
        absent=len(report.absent),
        quantiles=list_quantiles(report),
        compared=len(compared),
        blank=count_blank_images(views),
        max_pairs=MAX_PAIRS,
        percentages=[f"{quantile:.0%}" for quantile in _QUANTILES],
    )


def group_issues(issues: Sequence[Issue], manifest: Manifest | None, root: Path) -> list[Group]:
    """Return the findings by code, errors first, then in the order of the codes; at most `MAX_ROWS` of each."""
    by_code: dict[tuple[str, str], list[Issue]] = defaultdict(list)
    for issue in issues:
        by_code[issue.severity, issue.code].append(issue)
    parts = {case.case_id: name_part(case) for case in (manifest.cases if manifest else ())}
    groups = []
    for (severity, code), own in sorted(by_code.items()):
        leaks = [issue for issue in own if isinstance(issue, Leak) and issue.other][:MAX_PAIRS]
        pairs = [(leak, _draw_sides(leak, parts, root)) for leak in leaks]
        groups.append(Group(code, severity, own[:MAX_ROWS], len(own), pairs))
    return groups


def _draw_sides(leak: Leak, parts: Mapping[str, str], root: Path) -> list[Side]:
    places = ((leak.other, leak.other_record), (leak.path, leak.record))
    return [Side(path, record, parts.get(record, ""), draw_data_uri(root, path)) for path, record in places]


def list_quantiles(report: Report) -> list[tuple[str, int, list[str]]]:
    """Return name, number of cases and quantiles of shape and spacing, by number of axes and axis."""
    values: dict[str, list[float]] = defaultdict(list)
    for result in report.results:
        for key, sizes in _measure_case(result.case, result.view).items():
            for axis, size in enumerate(sizes, start=1):
                values[f"{key}, {len(sizes)}-D, axis {axis}"].append(float(size))
    return [
        (name, len(own), [f"{value:.4g}" if value % 1 else f"{value:.0f}" for value in pick_quantiles(own, _QUANTILES)])
        for name, own in sorted(values.items())
    ]


def _measure_case(case: Case, view: Any) -> dict[str, Sequence[float]]:
    """Return shape in voxels and spacing in mm from the manifest, or else from the first image."""
    probe = view.probes.get(case.image[0]) if view is not None and case.image else None
    shape = case.facts.get("shape") or (probe.shape if probe else ())
    spacing = case.facts.get("spacing") or (probe.spacing if probe else ())
    return {"shape (voxels)": shape, "spacing (mm)": spacing}
