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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.datasets.contents import CASE_CHECKS, CaseView, count_foreground
from pipeline.datasets.copies import find_leaking_pixels, find_near_copies
from pipeline.datasets.digests import map_threads
from pipeline.datasets.files import check_presence, compare_digest, is_there, read_file
from pipeline.datasets.leakage import find_leaking_files, find_leaking_subjects, find_leaking_volumes
from pipeline.datasets.manifest import Case, Manifest, split_fragment
from pipeline.datasets.options import CheckOptions
from pipeline.datasets.probes import ImageError, Probe, Source, probe_image
from pipeline.datasets.structure import (
    find_duplicate_ids,
    find_duplicate_paths,
    find_unpaired_slices,
    find_wrong_splits,
)
from pipeline.issues import Issue

Level = Literal["quick", "default", "deep"]
Progress = Callable[[Iterable["CaseResult"], int], Iterable["CaseResult"]]

# One line a check of the manifest alone; checks of a case are in `pipeline.datasets.contents`.
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
    find_leaking_pixels,
    find_near_copies,
)


@dataclass(frozen=True)
class CaseResult:
    """What was found in the files of a case.

    Args:
        case: the case.
        issues: findings in the order of files, then of checks.
        empty: whether the mask has no foreground; None if it was not decoded.
        view: the case with what was read; None if nothing was.
    """

    case: Case
    issues: tuple[Issue, ...]
    empty: bool | None = None
    view: CaseView | None = None


@dataclass(frozen=True)
class Report:
    """What a check found.

    Args:
        issues: all findings: the manifest's first, then case by case in the manifest's order.
        results: the cases checked.
        absent: cases that are not on disk and need not be.
    """

    issues: tuple[Issue, ...]
    results: tuple[CaseResult, ...] = ()
    absent: tuple[Case, ...] = ()

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

    Returns:
        The findings. The same input gives the same list.
    """
    wanted = list(manifest.cases if cases is None else cases)
    absent = [case for case in wanted if not is_present(case, root)]
    excused = {id(case) for case in absent if cases is None and case.split == "test"}
    issues = [issue for check in MANIFEST_CHECKS for issue in check(manifest)]
    missing_folder = explain_missing_dataset(manifest, root, wanted)
    if missing_folder is not None:
        return Report((*issues, missing_folder))
    lost = {id(case) for case in absent}
    present = [case for case in wanted if id(case) not in excused]
    if not any(case.sha256 for case in manifest.cases):
        message = "the manifest has no sha256, so changed files go unnoticed"
        issues.append(Issue("checksum-missing", "warning", message, hint="pipeline dataset build writes them"))
    run = _Run(manifest, root, level, options or CheckOptions())
    issues += run.check_shared([case for case in present if id(case) not in lost])

    def check(case: Case) -> CaseResult:
        return CaseResult(case, (_absent_issue(case),)) if id(case) in lost else run.check_case(case)

    with warnings.catch_warnings():
        # Pillow warns of what is odd in a damaged file; the checks say it better.
        warnings.filterwarnings("ignore", module="PIL")
        stream: Iterable[CaseResult] = map_threads(check, present, jobs)
        results = tuple(progress(stream, len(present)) if progress else stream)
    issues += [issue for result in results for issue in result.issues]
    views = [result.view for result in results if result.view is not None]
    issues += [issue for dataset_check in DATASET_CHECKS for issue in dataset_check(views)]
    return Report(tuple(issues), results, tuple(case for case in absent if id(case) in excused))


def is_present(case: Case, root: Path) -> bool:
    """Return whether at least one file of the case is there, be it a dangling link."""
    # Annotations belong to many cases; their file says nothing about one.
    own = [path for path in (*case.image, *(case.label or ())) if not split_fragment(path)[1]]
    return any(is_there(root / path) for path in own)


def _absent_issue(case: Case) -> Issue:
    files = case.files()
    message = f"none of the {len(files)} files of the case exists"
    return Issue("missing-file", "error", message, record=case.case_id, path=files[0] if files else "")


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


class _Run:
    """One check of a dataset: what its cases have in common."""

    def __init__(self, manifest: Manifest, root: Path, level: Level, options: CheckOptions) -> None:
        self.manifest, self.root, self.level, self.options = manifest, root, level, options
        self.shared: dict[str, Issue | None] = {}

    def check_shared(self, cases: Sequence[Case]) -> list[Issue]:
        """Check the files that several cases refer to, such as annotations, once."""
        owners = Counter(file for case in cases for file in case.files())
        digests = {file: digest for case in cases for file, digest in case.sha256.items() if owners[file] > 1}
        issues: list[Issue] = []
        annotations: dict[str, Path] = {}
        for file in (file for file, number in owners.items() if number > 1 or file.lower().endswith(".json")):
            problem, _ = self._read(file, digests.get(file), "")
            if problem is None or problem.code == "checksum-mismatch":
                annotations |= {file: self.root / file} if file.lower().endswith(".json") else {}
            self.shared[file] = problem
            issues += [problem] if problem else []
        if annotations and self.manifest.coco is not None and self.level != "quick":
            from pipeline.datasets.coco import find_annotation_issues

            issues += find_annotation_issues(self.manifest, annotations)
        return issues

    def check_case(self, case: Case) -> CaseResult:
        """Check the files of a case; whatever a reader raises becomes a finding."""
        issues: list[Issue] = []
        probes: dict[str, Probe] = {}
        masks = set(case.label or ())
        for path in (*case.image, *(case.label or ())):
            file, fragment = split_fragment(path)
            problem, source = (self.shared[file], None) if file in self.shared else (None, None)
            if file not in self.shared:
                problem, source = self._read(file, case.sha256.get(file), case.case_id)
                issues += [problem] if problem else []
            if self.level == "quick" or (problem and problem.code != "checksum-mismatch"):
                continue
            source = source or Source(self.root / file)
            # Nothing vouches for a file without sha256, or with another one, so it is decoded.
            decode = self.level == "deep" or file not in case.sha256 or problem is not None
            probe = self._probe(case.case_id, path, source, fragment, decode, path in masks)
            if isinstance(probe, Probe):
                probes[path] = probe
            else:
                issues.append(probe)
        view = CaseView(self.manifest, case, probes, self.options)
        if probes:
            issues += [issue for check in CASE_CHECKS for issue in check(view)]
        foreground = count_foreground(view)
        return CaseResult(case, tuple(issues), None if foreground is None else foreground == 0, view)

    def _read(self, file: str, expected: str | None, record: str) -> tuple[Issue | None, Source | None]:
        problem = check_presence(self.root, file, record)
        if problem is not None or self.level == "quick":
            return problem, None
        try:
            data, digest = read_file(self.root / file)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            return Issue("unreadable-file", "error", reason, record=record, path=file), None
        problem = compare_digest(file, digest, expected, record) if expected else None
        return problem, Source(self.root / file, data)

    def _probe(
        self, record: str, path: str, source: Source, fragment: str, decode: bool, is_mask: bool
    ) -> Probe | Issue:
        try:
            if fragment:
                from pipeline.datasets.coco import probe_annotations

                return probe_annotations(source.path, fragment, self.manifest, decode)
            return probe_image(source, decode=decode, is_mask=is_mask, max_pixels=self.options.max_pixels)
        except ImageError as error:
            return Issue(error.code, "error", error.message, record=record, path=path, hint=error.hint)
        except Exception as error:
            # A reader that breaks in an unforeseen way is a finding about its file, never the end of the check.
            message = f"reading failed: {type(error).__name__}: {error}"
            return Issue("unreadable-file", "error", message, record=record, path=path)


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
                "files": sum(len(result.case.files()) for result in own),
                "empty_masks": sum(decoded) if decoded else None,
            }
    return table
