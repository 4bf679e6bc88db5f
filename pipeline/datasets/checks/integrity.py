"""Check a dataset against its manifest: everything that is wrong, in a fixed order, nothing stops at the first.

==========  ====================================================  =========================================
level       reads                                                 finds
==========  ====================================================  =========================================
``quick``   the manifest, and the files' status                   ids, paths, splits, leaks, missing files
``default`` the same, all bytes (sha256) and the images' headers  changed files, sizes, channels, formats
``deep``    the same and all pixels                               cut-off files, mask values, empty masks
==========  ====================================================  =========================================

A file without sha256 in the manifest, or with another one, is decoded at the default level too: nothing else vouches
for it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.checks.cache import FileCache
from pipeline.datasets.checks.case_view import CaseView
from pipeline.datasets.checks.cohort import (
    find_empty_splits,
    find_mixed_types,
    find_shared_masks,
    find_unknown_palettes,
)
from pipeline.datasets.checks.geometry import find_mixed_orientations, find_spacing_outliers
from pipeline.datasets.checks.handled import count_handled
from pipeline.datasets.checks.inspection import CaseResult, Inspection, Level
from pipeline.datasets.checks.leaks.copies import find_leaking_pixels, find_near_copies
from pipeline.datasets.checks.leaks.manifest_leaks import (
    find_leaking_files,
    find_leaking_subjects,
    find_leaking_volumes,
)
from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.checks.structure import (
    check_subjects,
    find_duplicate_ids,
    find_duplicate_paths,
    find_unpaired_slices,
    find_wrong_splits,
)
from pipeline.datasets.digests import map_threads
from pipeline.datasets.files import is_there, locate_file
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.issues import Issue

__all__ = ["CaseResult", "Level", "Report", "check_manifest", "count_splits", "explain_missing_dataset", "is_present"]

Progress = Callable[[Iterable[CaseResult], int], Iterable[CaseResult]]

# One line a check of the manifest alone; checks of a case are in `pipeline.datasets.checks.contents`.
MANIFEST_CHECKS: tuple[Callable[[Manifest], Iterator[Issue]], ...] = (
    find_duplicate_ids,
    find_duplicate_paths,
    find_unpaired_slices,
    find_wrong_splits,
    find_leaking_subjects,
    find_leaking_files,
    find_leaking_volumes,
)
# One line a check of all cases together, run after their files were read.
DATASET_CHECKS: tuple[Callable[[Sequence[CaseView]], Iterator[Issue]], ...] = (
    find_empty_splits,
    find_unknown_palettes,
    find_mixed_types,
    find_shared_masks,
    find_mixed_orientations,
    find_spacing_outliers,
    find_leaking_pixels,
    find_near_copies,
)


@dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        issues: all findings: the manifest's first, then case by case in the manifest's order.
        results: the cases checked.
        absent: cases that are not on disk and need not be.
        handled: number of files that are unusual but right as they are, by what is done with them.
        accepted: findings that a baseline knows; they are not among ``issues``.
    """

    issues: tuple[Issue, ...]
    results: tuple[CaseResult, ...] = ()
    absent: tuple[Case, ...] = ()
    handled: Mapping[str, int] = field(default_factory=dict)
    accepted: tuple[Issue, ...] = ()

    def errors(self) -> list[Issue]:
        """Return the findings that block."""
        return [issue for issue in self.issues if issue.severity == "error"]


def check_manifest(
    manifest: Manifest,
    root: Path,
    *,
    level: Level = "default",
    cases: Sequence[Case] | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
    options: CheckOptions | None = None,
    cache: FileCache | None = None,
    trust_cache: bool = False,
) -> Report:
    """Check a dataset against its manifest.

    Args:
        manifest: what should be there.
        root: the dataset's folder.
        level: how much is read; see the table above.
        cases: the cases whose files must be there. None takes all, but test cases that are wholly absent are normal:
            they are counted, not reported.
        jobs: number of threads; None takes one a core.
        progress: wraps the stream of results, given their number, for a progress bar.
        options: limits and thresholds.
        cache: is renewed with what is read.
        trust_cache: do not read files that are as ``cache`` knows them.

    Returns:
        The findings. The same input gives the same list.
    """
    options = options or CheckOptions()
    wanted = list(manifest.cases if cases is None else cases)
    absent = [case for case in wanted if not is_present(case, root)]
    excused = {id(case) for case in absent if cases is None and case.split == "test"}
    issues = [issue for check in MANIFEST_CHECKS for issue in check(manifest)]
    issues += check_subjects(manifest, options.require_patient)
    missing_folder = explain_missing_dataset(manifest, root, wanted)
    if missing_folder is not None:
        return Report((*issues, missing_folder))
    lost = {id(case) for case in absent}
    present = [case for case in wanted if id(case) not in excused]
    issues += _find_missing_checksums(present)
    run = Inspection(manifest, root, level, options, cache, trust_cache)
    issues += run.check_shared([case for case in present if id(case) not in lost])

    def check(case: Case) -> CaseResult:
        return CaseResult(case, (_absent_issue(case),)) if id(case) in lost else run.check_case(case)

    with warnings.catch_warnings():
        # Pillow warns of what is odd in a damaged file; the checks say it better.
        warnings.filterwarnings("ignore", module="PIL")
        stream: Iterable[CaseResult] = map_threads(check, present, jobs, run.abandon)
        results = tuple(progress(stream, len(present)) if progress else stream)
    if cache is not None:
        cache.save()
    issues += [issue for result in results for issue in result.issues]
    views = [result.view for result in results if result.view is not None]
    issues += [issue for dataset_check in DATASET_CHECKS for issue in dataset_check(views)]
    return Report(
        tuple(issues), results, tuple(case for case in absent if id(case) in excused), count_handled(views, root)
    )


def _find_missing_checksums(cases: Sequence[Case]) -> Iterator[Issue]:
    """Yield ``checksum-missing`` once, with the number of files whose changes would go unnoticed."""
    bare = [(case, file) for case in cases for file in case.files() if file not in case.sha256]
    if bare:
        files = len({file for case in cases for file in case.files()})
        number = len({file for _, file in bare})
        message = f"{number} of {files} files have no sha256 in the manifest, so a change would go unnoticed"
        hint = "pipeline dataset check MANIFEST --dataset_dir DIR --write-checksums adds them"
        yield Issue("checksum-missing", "warning", message, record=bare[0][0].case_id, path=bare[0][1], hint=hint)


def is_present(case: Case, root: Path) -> bool:
    """Return whether at least one file of the case is there, be it a dangling link."""
    # Annotations belong to many cases; their file says nothing about one.
    own = [path for path in (*case.image, *(case.label or ())) if not split_fragment(path)[1]]
    return any(is_there(locate_file(root, path)) for path in own)


def _absent_issue(case: Case) -> Issue:
    files = case.files()
    message = f"none of the {len(files)} files of the case exists"
    hint = "copy them from the download, or check one split only (--split)"
    return Issue("missing-file", "error", message, record=case.case_id, path=files[0] if files else "", hint=hint)


def explain_missing_dataset(manifest: Manifest, root: Path, cases: Sequence[Case]) -> Issue | None:
    """Return ``missing-dataset`` if the folder does not exist or holds none of the cases, with where to get it."""
    has_folder = os.path.isdir(root)
    if has_folder and (not cases or any(is_present(case, root) for case in cases)):
        return None
    what = f"holds none of the {len(cases)} cases asked for" if has_folder else "does not exist"
    first = next((path for case in cases for path in case.files()), "")
    message = f"the dataset folder {root} {what} (expected for example {root / first})"
    nested = [child for child in sorted(root.iterdir()) if is_there(child / first)] if has_folder and first else []
    hints = [f"download: {manifest.source}"] if manifest.source else []
    if manifest.layout:
        hints.append(f"or try it on a small phantom: python -m pipeline dataset phantom {manifest.layout} OUT")
    hint = f"did you mean {nested[0]}?" if nested else "; ".join(hints)
    return Issue("missing-dataset", "error", message, hint=hint)


def count_splits(report: Report) -> dict[str, dict[str, int | None]]:
    """Return numbers by split: cases, subjects, files, and cases with an empty mask (None: masks were not decoded)."""
    table: dict[str, dict[str, int | None]] = {}
    for split in ("train", "val", "test"):
        own = [result for result in report.results if result.case.split == split]
        decoded = [result.empty for result in own if result.empty is not None]
        if own:
            table[split] = {
                "cases": len(own),
                "subjects": len({result.case.subject_key() for result in own}),
                "files": len({file for result in own for file in result.case.files()}),
                "empty_masks": sum(decoded) if decoded else None,
            }
    return table
