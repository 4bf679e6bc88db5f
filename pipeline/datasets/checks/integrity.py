"""Check a dataset against its manifest and report all findings in a fixed order.

==========  ====================================================  =========================================
level       reads                                                 finds
==========  ====================================================  =========================================
``quick``   the manifest, and the files' status                   ids, paths, splits, leaks, missing files
``default`` also all bytes (sha256) and the images' headers       changed files, sizes, channels, formats
``deep``    also all pixels                                       truncated files, mask values, empty masks
==========  ====================================================  =========================================

A file without sha256 in the manifest, or with another one, is decoded at the default level too, and so is one mask of
each of 24 cases: a wrong ``mask_values`` is wrong for most masks.
"""

import os
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.checks import cohort, geometry, structure
from pipeline.datasets.checks.cache import FileCache
from pipeline.datasets.checks.case_view import CaseView
from pipeline.datasets.checks.handled import count_handled
from pipeline.datasets.checks.inspection import CaseResult, Inspection, Level
from pipeline.datasets.checks.leaks import copies, manifest_leaks
from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.digests import map_threads
from pipeline.datasets.files import is_there, locate_file
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.issues import InputError, Issue

# Cases of which the default check decodes a mask. If one mask in ten is wrong, it misses all with a chance of 8 %.
SAMPLE = 24
Progress = Callable[[Iterable[CaseResult], int], Iterable[CaseResult]]

# One line per check of the manifest; checks of a case are in `pipeline.datasets.checks.contents`.
MANIFEST_CHECKS: tuple[Callable[[Manifest], Iterator[Issue]], ...] = (
    structure.find_duplicate_ids,
    structure.find_duplicate_paths,
    structure.find_unpaired_slices,
    structure.find_wrong_splits,
    manifest_leaks.find_leaking_subjects,
    manifest_leaks.find_leaking_files,
    manifest_leaks.find_leaking_volumes,
)
# One line per check of all cases together, run after their files were read.
DATASET_CHECKS: tuple[Callable[[Sequence[CaseView]], Iterator[Issue]], ...] = (
    cohort.find_empty_splits,
    cohort.find_unknown_palettes,
    cohort.find_mixed_types,
    cohort.find_shared_masks,
    geometry.find_mixed_orientations,
    geometry.find_spacing_outliers,
    copies.find_leaking_pixels,
    copies.find_near_copies,
)


@dataclass(frozen=True)
class Report:
    """The result of a check."""

    issues: tuple[Issue, ...]  #: all findings, first of the manifest, then of each case in the manifest's order
    results: tuple[CaseResult, ...] = ()  #: the cases checked
    absent: tuple[Case, ...] = ()  #: cases that are not on disk and are not required
    #: number of unusual but valid files, by the way in which they are handled
    handled: Mapping[str, int] = field(default_factory=dict)
    accepted: tuple[Issue, ...] = ()  #: findings in a baseline; they are not among ``issues``

    def errors(self) -> list[Issue]:
        """Return the findings of severity error."""
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
        manifest: the expected dataset.
        root: the dataset's folder.
        level: how much is read; see the table above.
        cases: the cases whose files must exist. None takes all; then absent test cases are counted, not reported.
        jobs: number of threads; None takes one per core.
        progress: wraps an iterable of results, given their number.
        options: limits and thresholds.
        cache: is renewed with every file that is read.
        trust_cache: do not read files that have not changed since they were cached.

    Returns:
        The findings. The same input gives the same list.
    """
    options = options or CheckOptions()
    wanted = list(manifest.cases if cases is None else cases)
    issues = [issue for check in MANIFEST_CHECKS for issue in check(manifest)]
    issues += structure.check_subjects(manifest, options.require_patient)
    missing_folder = explain_missing_dataset(manifest, root, wanted)
    if missing_folder is not None:
        return Report((*issues, missing_folder))
    lost = {id(case): case for case in wanted if not is_present(case, root)}
    excused = tuple(case for case in lost.values() if cases is None and case.split == "test")
    required = [case for case in wanted if id(case) not in {id(case) for case in excused}]
    issues += _find_missing_checksums(required)
    sample = _choose_sample([case for case in required if id(case) not in lost]) if level == "default" else []
    run = Inspection(manifest, root, level, options, cache, trust_cache, sample)
    issues += run.check_shared([case for case in required if id(case) not in lost])
    results = _check_cases(run, required, lost, jobs, progress)
    if cache is not None:
        cache.save()
    issues += [issue for result in results for issue in result.issues]
    views = [result.view for result in results if result.view is not None]
    issues += [issue for dataset_check in DATASET_CHECKS for issue in dataset_check(views)]
    return Report(tuple(issues), results, excused, count_handled(views, root))


def _choose_sample(cases: Sequence[Case]) -> list[str]:
    """Return the ids of some cases with masks, evenly spread over the manifest."""
    labelled = [case.case_id for case in cases if case.label]
    return labelled[:: max(1, -(-len(labelled) // SAMPLE))]


def _check_cases(
    run: Inspection, cases: Sequence[Case], lost: Container[int], jobs: int | None, progress: Progress | None
) -> tuple[CaseResult, ...]:
    def check(case: Case) -> CaseResult:
        return CaseResult(case, (_report_absent(case),)) if id(case) in lost else run.check_case(case)

    with warnings.catch_warnings():
        # Pillow warns of oddities in damaged files, which the checks report better.
        warnings.filterwarnings("ignore", module="PIL")
        stream: Iterable[CaseResult] = map_threads(check, cases, jobs, run.abandon)
        return tuple(progress(stream, len(cases)) if progress else stream)


def _find_missing_checksums(cases: Sequence[Case]) -> Iterator[Issue]:
    """Yield ``checksum-missing`` once, with the number of files whose changes cannot be noticed."""
    bare = [(case, file) for case in cases for file in case.files() if file not in case.sha256]
    if bare:
        files = len({file for case in cases for file in case.files()})
        number = len({file for _, file in bare})
        message = f"{number} of {files} files have no sha256 in the manifest, so changes cannot be noticed"
        hint = "pipeline dataset check MANIFEST --dataset_dir DIR --write-checksums adds them"
        yield Issue("checksum-missing", "warning", message, record=bare[0][0].case_id, path=bare[0][1], hint=hint)


def is_present(case: Case, root: Path) -> bool:
    """Return whether at least one file of the case exists, even as a dangling link."""
    # Annotation files belong to many cases.
    own = [path for path in (*case.image, *(case.label or ())) if not split_fragment(path)[1]]
    return any(is_there(locate_file(root, path)) for path in own)


def _report_absent(case: Case) -> Issue:
    files = case.files()
    message = f"none of the {len(files)} files of the case exists"
    hint = "copy them from the download, or check one split only (--split)"
    return Issue("missing-file", "error", message, record=case.case_id, path=files[0] if files else "", hint=hint)


def explain_missing_dataset(manifest: Manifest, root: Path, cases: Sequence[Case]) -> Issue | None:
    """Return ``missing-dataset``, with its source, if the folder does not exist or holds none of the cases."""
    has_folder = os.path.isdir(root)
    if has_folder and (not cases or any(is_present(case, root) for case in cases)):
        return None
    what = f"holds none of the {len(cases)} cases asked for" if has_folder else "does not exist"
    first = next((path for case in cases for path in case.files()), "")
    message = f"the dataset folder {root} {what} (expected for example {root / first})"
    nested = [child for child in sorted(root.iterdir()) if is_there(child / first)] if has_folder and first else []
    hints = [f"download: {manifest.source}"] if manifest.source else []
    if manifest.layout.isidentifier():
        hints.append(f"or try a small phantom: python -m pipeline dataset phantom {manifest.layout} OUT")
    hint = f"did you mean {nested[0]}?" if nested else "; ".join(hints)
    return Issue("missing-dataset", "error", message, hint=hint)


def require_dataset(manifest: Manifest, root: Path, cases: Sequence[Case]) -> None:
    """Raise an `InputError` if the folder does not exist or holds none of the cases."""
    problem = explain_missing_dataset(manifest, root, cases)
    if problem:
        raise InputError("; ".join(part for part in (problem.message, problem.hint) if part))


def count_splits(report: Report) -> dict[str, dict[str, int | None]]:
    """Return numbers by split: cases, subjects, files, cases with an empty mask (None if masks were not decoded)."""
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
