"""Complete a reader's draft: digests of all files, sizes and label counts of all cases, in parallel."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.datasets.checks.case_view import CaseView, count_foreground, count_labels
from pipeline.datasets.checks.contents import CASE_CHECKS
from pipeline.datasets.checks.masks import propose_values
from pipeline.datasets.checks.union import count_union
from pipeline.datasets.digests import map_threads
from pipeline.datasets.files import check_presence, compare_digest, read_file
from pipeline.datasets.layouts.listing import Listing, ManifestDraft, note, note_names
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.datasets.probes import ImageError, ImageSource, Probe, probe_image
from pipeline.issues import InputError, Issue, summarise

Progress = Callable[[Iterable["Measured"], int], Iterable["Measured"]]


@dataclass(frozen=True)
class Measured:
    """A case with digests and facts."""

    case: Case  #: the case
    problems: tuple[Issue, ...] = ()  #: files that keep it from being used
    findings: tuple[Issue, ...] = ()  #: errors of the checks of a case
    values: frozenset[float] = frozenset()  #: values of its masks


def complete_draft(
    draft: ManifestDraft,
    listing: Listing,
    published: Mapping[str, str],
    *,
    progress: Progress | None = None,
    skip_broken: bool = False,
) -> ManifestDraft:
    """Hash and measure the files of a draft, as `pipeline.datasets.layouts.read_layout` describes.

    Returns:
        The draft with ``sha256`` and the facts ``shape``, ``dtype``, ``spacing``, ``foreground`` and ``voxels`` of
        every case on disk; cases that only the checksums list have digests alone.

    Raises:
        InputError: files that cannot be read or differ from their published digest (the first, and how many more).
    """
    run = _Build(draft.manifest, listing, published)
    stream: Iterable[Measured] = map_threads(run.measure, draft.manifest.cases)
    results = list(progress(stream, len(draft.manifest.cases)) if progress else stream)
    problems = [issue for result in results for issue in result.problems]
    if problems and not skip_broken:
        hint = "--skip-broken leaves such cases out"
        raise InputError(f"{listing.root}: {summarise(problems)}; restore the files, or {hint}")
    inverted = [issue for result in results for issue in result.findings if issue.code == "inverted-grey"]
    if inverted and not skip_broken:
        raise InputError(f"{listing.root}: {summarise(inverted)}")
    if draft.declared:
        _require_declared_values(draft.manifest, listing, results)
    kept = tuple(result.case for result in results if not result.problems)
    if not kept:
        first = f": {summarise(problems)}" if problems else ""
        raise InputError(f"{listing.root}: no case is left{first}")
    skipped = (replace(issue, severity="warning") for issue in problems)
    notes = (*draft.notes, *_note_files(listing, kept), *_note_findings(results), *skipped)
    return ManifestDraft(replace(draft.manifest, cases=_fill_planes(kept)), notes)


def _require_declared_values(manifest: Manifest, listing: Listing, results: Sequence[Measured]) -> None:
    """Refuse masks that hold other values than the user said, and name the option that says it right."""
    wrong = [issue for result in results for issue in result.findings if issue.code == "label-values"]
    if wrong:
        values = {value for result in results for value in result.values}
        hint = propose_values(manifest, values) if manifest.binarize is None else wrong[0].hint
        raise InputError(f"{listing.root}: {summarise([replace(issue, hint='') for issue in wrong])}; {hint}")


def _note_findings(results: Iterable[Measured]) -> Iterator[Issue]:
    """Yield a note for each kind of error that the check of the dataset will find, such as channels that differ."""
    found = [issue for result in results for issue in result.findings]
    for code in dict.fromkeys(issue.code for issue in found):
        same = [issue for issue in found if issue.code == code]
        more = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
        yield replace(same[0], severity="warning", message=f"{same[0].message}{more}")


def _note_files(listing: Listing, cases: tuple[Case, ...]) -> Iterator[Issue]:
    yield from note_names("hidden-file", "are hidden and were ignored", listing.hidden)
    missing = set(listing.absent)
    absent = sum(case.files()[0] in missing for case in cases)
    if absent:
        message = f"{absent} of {len(cases)} cases are known from the published checksums only"
        yield note("absent-case", message, hint="their sizes stay unknown")


class _Build:
    """State of one build, which reads files that several cases share only once."""

    def __init__(self, manifest: Manifest, listing: Listing, published: Mapping[str, str]) -> None:
        self.manifest, self.root, self.published = manifest, listing.root, published
        self.absent = frozenset(listing.absent)
        self.annotations: dict[str, str] = {}

    def measure(self, case: Case) -> Measured:
        """Return the case with digests and facts."""
        if all(path in self.absent for path in case.files()):
            digests = {path: self.published[path] for path in case.files()}
            return Measured(replace(case, sha256=digests))
        digests, probes, sources = dict[str, str](), dict[str, Probe](), dict[str, ImageSource]()
        problems: list[Issue] = []
        for path in (*case.image, *(case.label or ())):
            found = self._read(path, case.case_id)
            if isinstance(found, Issue):
                problems.append(found)
                continue
            file, sources[path], digests[file] = found
            try:
                probes[path] = self._probe(path, sources[path], path in (case.label or ()))
            except ImageError as error:
                issue = Issue(error.code, "error", error.message, record=case.case_id, path=path, hint=error.hint)
                problems.append(issue)
        united = count_union(self.manifest, case, sources, probes) if case.has_several_masks() else None
        view = CaseView(self.manifest, case, probes, united=united)
        facts = _merge(_measure(view), case.facts)
        return Measured(replace(case, sha256=digests, facts=facts), tuple(problems), *_check(view))

    def _read(self, path: str, record: str) -> tuple[str, ImageSource, str] | Issue:
        """Return file, bytes and digest; or the reason why the file cannot be used."""
        file, fragment = split_fragment(path)
        target = self.root / file
        if fragment and file in self.annotations:
            return file, ImageSource(target), self.annotations[file]
        problem = check_presence(self.root, file, record)
        if not file.isprintable() and any("\ud800" <= char <= "\udfff" for char in file):
            problem = Issue("unreadable-file", "error", "its name is not UTF-8", record, file, "rename it")
        if problem is None:
            try:
                data, digest = read_file(target)
            except OSError as error:
                problem = Issue("unreadable-file", "error", (error.strerror or "").lower(), record=record, path=file)
        if problem is None and self.published:
            if file not in self.published:
                problem = Issue("checksum-missing", "error", "is not in the list of checksums", record, file)
            else:
                problem = compare_digest(file, digest, self.published[file], record)
        if problem is not None:
            return problem
        if fragment:
            self.annotations[file] = digest
        return file, ImageSource(target, data), digest

    def _probe(self, path: str, source: ImageSource, is_mask: bool) -> Probe:
        fragment = split_fragment(path)[1]
        if fragment:
            from pipeline.datasets.coco import probe_annotations

            turn = self.manifest.find_turn(path)
            return probe_annotations(source.path, fragment, self.manifest, True, turn)
        # Images are decoded too, because the manifest must not record cut-off files as good.
        return probe_image(source, decode=True, is_mask=is_mask)


def _check(view: CaseView) -> tuple[tuple[Issue, ...], frozenset[float]]:
    """Return the errors in the files that were read, and the values of the masks."""
    issues = (issue for check in CASE_CHECKS for issue in check(view)) if view.probes else ()
    values = (value for _, probe in view.masks() if probe.content for value in probe.content.counts)
    return tuple(issue for issue in issues if issue.severity == "error"), frozenset(values)


def _measure(view: CaseView) -> dict[str, Any]:
    """Return the facts of a case that was read."""
    case, manifest = view.case, view.manifest
    first = view.probes.get(case.image[0])
    if first is None:
        return {}
    shape = list(first.shape)
    spacing = list(first.spacing) or None
    if manifest.stacking in ("slices", "series") and len(case.image) > 1:
        shape = [*shape[:2], len(case.image)]
    facts: dict[str, Any] = {"shape": shape, "dtype": first.dtype or None, "spacing": spacing}
    facts["foreground"] = count_foreground(view)
    voxels = count_labels(view)
    if manifest.mask_type == "semantic" and voxels is not None and len(manifest.labels) > 2:
        facts["voxels"] = {str(label): number for label, number in sorted(voxels.items())}
    return facts


def _merge(measured: Mapping[str, Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return measured facts and those that the reader found in names, which win unless they are None."""
    return {**measured, **{key: value for key, value in named.items() if value is not None or key not in measured}}


def _fill_planes(cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """Give stacks that only the checksums list the plane of all others, if they share one."""
    planes = {tuple(case.facts["shape"][:2]) for case in cases if case.facts.get("shape")}
    types = {case.facts["dtype"] for case in cases if case.facts.get("dtype")}
    if len(planes) != 1 or len(types) != 1:
        return cases
    plane = next(iter(planes))
    stack = {"shape": None, "dtype": next(iter(types)), "spacing": None, "foreground": None}
    return tuple(
        case
        if case.facts.get("shape") or len(case.image) < 2
        else replace(case, facts=_merge({**stack, "shape": [*plane, len(case.image)]}, case.facts))
        for case in cases
    )
