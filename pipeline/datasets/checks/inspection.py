"""Read each file of the cases once and run the checks of a case; every error of a reader becomes a finding."""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pipeline.datasets.checks.cache import Entry, FileCache
from pipeline.datasets.checks.case_view import CaseView, count_foreground
from pipeline.datasets.checks.contents import CASE_CHECKS
from pipeline.datasets.checks.masks import VALUE_CHECKS
from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.checks.union import count_union
from pipeline.datasets.files import State, check_presence, compare_digest, locate_file, read_stable_file, take_state
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.datasets.probes import ImageError, ImageSource, Probe, probe_image
from pipeline.issues import InputError, Issue

Level = Literal["quick", "default", "deep"]


@dataclass(frozen=True)
class CaseResult:
    """The findings in the files of a case."""

    case: Case  #: the case
    issues: tuple[Issue, ...]  #: findings in the order of files, then of checks
    empty: bool | None = None  #: whether the mask has no foreground; None if it was not decoded
    view: CaseView | None = None  #: the case with the facts that were read; None if no file was read
    digests: Mapping[str, str] = field(default_factory=dict)  #: sha256 of each file that was read


@dataclass(frozen=True)
class _Reading:
    """The result of reading a file: its problem, or its facts."""

    problem: Issue | None = None
    source: ImageSource | None = None
    digest: str = ""
    state: State | None = None
    cached: Entry | None = None


class Inspection:
    """One check of a dataset, with the state that its cases share; arguments as in `check_manifest`."""

    def __init__(
        self,
        manifest: Manifest,
        root: Path,
        level: Level,
        options: CheckOptions,
        cache: FileCache | None = None,
        trust_cache: bool = False,
        sample: Collection[str] = (),
    ) -> None:
        self.manifest, self.root, self.level, self.options = manifest, root, level, options
        self.cache, self.trusted = cache, cache if trust_cache else None
        self.sample = frozenset(sample)
        self.shared: dict[str, _Reading] = {}
        self._abandoned = False

    def abandon(self) -> None:
        """Let running calls of `check_case` end after their current file, with results that must not be used."""
        self._abandoned = True

    def check_shared(self, cases: Sequence[Case]) -> list[Issue]:
        """Check the files that several cases refer to, such as annotations, once."""
        owners = Counter(file for case in cases for file in case.files())
        digests = {file: digest for case in cases for file, digest in case.sha256.items() if owners[file] > 1}
        issues: list[Issue] = []
        annotations: dict[str, Path] = {}
        for file in (file for file, number in owners.items() if number > 1 or file.lower().endswith(".json")):
            reading = self._read(file, digests.get(file), "", False)
            problem = reading.problem
            if problem is None or problem.code == "checksum-mismatch":
                annotations |= {file: locate_file(self.root, file)} if file.lower().endswith(".json") else {}
            # The bytes are not kept: a picture that two cases share is rare, and is read again.
            self.shared[file] = _Reading(problem, None, reading.digest)
            issues += [problem] if problem else []
        if annotations and self.manifest.coco is not None and self.level != "quick":
            from pipeline.datasets.coco import find_annotation_issues

            issues += find_annotation_issues(self.manifest, annotations)
        return issues

    def check_case(self, case: Case) -> CaseResult:
        """Check the files of a case, then the case."""
        issues: list[Issue] = []
        probes: dict[str, Probe] = {}
        readings: dict[str, _Reading] = {}
        masks = set(case.label or ())
        for path in (*case.image, *(case.label or ())):
            if self._abandoned:
                return CaseResult(case, ())
            readings[path], probe = self._inspect(case, path, path in masks, issues)
            probes |= {path: probe} if probe else {}
        united = None
        if case.has_several_masks():
            sources = {path: reading.source for path, reading in readings.items() if reading.source}
            united = count_union(self.manifest, case, sources, probes)
        view = CaseView(self.manifest, case, probes, self.options, united)
        if probes:
            issues += [issue for check in CASE_CHECKS for issue in check(view)]
            issues += [issue for issue in self._check_sample(view, readings) if issue not in issues]
        self._remember(view, readings, issues)
        foreground = count_foreground(view)
        digests = {split_fragment(path)[0]: reading.digest for path, reading in readings.items() if reading.digest}
        return CaseResult(case, tuple(issues), None if foreground is None else foreground == 0, view, digests)

    def _check_sample(self, view: CaseView, readings: Mapping[str, _Reading]) -> list[Issue]:
        """Decode one mask of a case of the sample, and check its values; its facts do not count as the case's."""
        masks = [path for path, probe in view.masks() if probe.content is None and not split_fragment(path)[1]]
        if view.case.case_id not in self.sample or not masks:
            return []
        path = masks[len(masks) // 2]
        probe = self._probe(view.case.case_id, path, readings[path], "", True, True)
        if isinstance(probe, Issue):
            return [probe]
        alone = replace(view, probes={path: probe})
        return [issue for check in VALUE_CHECKS for issue in check(alone)]

    def _inspect(self, case: Case, path: str, is_mask: bool, issues: list[Issue]) -> tuple[_Reading, Probe | None]:
        """Read a file and return its facts; problems are added to ``issues``."""
        file, fragment = split_fragment(path)
        expected = case.sha256.get(file)
        reading = self.shared.get(file)
        if reading is None:
            reading = self._read(file, expected, case.case_id, is_mask)
            issues += [reading.problem] if reading.problem else []
        if self.level == "quick" or (reading.problem and reading.problem.code != "checksum-mismatch"):
            return reading, None
        # A file without sha256, or with another one, cannot be trusted, so it is decoded.
        decode = self.level == "deep" or expected is None or reading.problem is not None
        probe = self._probe(case.case_id, path, reading, fragment, decode, is_mask)
        if isinstance(probe, Probe):
            return reading, probe
        issues.append(probe)
        return reading, None

    def _read(self, file: str, expected: str | None, record: str, is_mask: bool) -> _Reading:
        target = locate_file(self.root, file)
        if self.trusted is not None and self.level != "quick":
            known = self._recall(target, file, expected, is_mask)
            if known is not None:
                return known
        problem = check_presence(self.root, file, record)
        if problem is not None or self.level == "quick":
            return _Reading(problem)
        try:
            data, digest, state = read_stable_file(target)
        except (OSError, MemoryError) as error:
            reason = (getattr(error, "strerror", "") or str(error) or "no memory left").lower()
            hint = "check the disk or the network, then run the check again"
            return _Reading(Issue("unreadable-file", "error", reason, record=record, path=file, hint=hint))
        problem = compare_digest(file, digest, expected, record) if expected else None
        return _Reading(problem, ImageSource(target, data), digest, state)

    def _recall(self, target: Path, file: str, expected: str | None, is_mask: bool) -> _Reading | None:
        """Return the cached facts of an unchanged file, None if it must be read."""
        try:
            state = take_state(os.stat(target))
        except OSError:
            return None
        decoded = self.level == "deep" or expected is None
        assert self.trusted is not None
        entry = self.trusted.find(file, state, is_mask=is_mask, decoded=decoded, max_pixels=self.options.max_pixels)
        if entry is None or (expected is not None and entry.digest != expected):
            return None
        return _Reading(None, ImageSource(target), entry.digest, None, entry)

    def _probe(
        self, record: str, path: str, reading: _Reading, fragment: str, decode: bool, is_mask: bool
    ) -> Probe | Issue:
        if reading.cached is not None and reading.cached.probe is not None:
            return reading.cached.probe
        source = reading.source or ImageSource(locate_file(self.root, split_fragment(path)[0]))
        try:
            if fragment:
                from pipeline.datasets.coco import probe_annotations

                turn = self.manifest.find_turn(path)
                return probe_annotations(source.path, fragment, self.manifest, decode, turn)
            return probe_image(source, decode=decode, is_mask=is_mask, max_pixels=self.options.max_pixels)
        except ImageError as error:
            return Issue(error.code, "error", error.message, record=record, path=path, hint=error.hint)
        except InputError:
            raise
        except Exception as error:
            # An unforeseen error of a reader is a finding about its file, and never ends the check.
            message = f"reading failed: {type(error).__name__}: {error}"
            hint = "restore the file, or leave the case out"
            return Issue("unreadable-file", "error", message, record=record, path=path, hint=hint)

    def _remember(self, view: CaseView, readings: Mapping[str, _Reading], issues: Sequence[Issue]) -> None:
        """Renew the cache with cases that have no error."""
        if self.cache is None or self.level == "quick":
            return
        sound = not any(issue.severity == "error" for issue in issues)
        masks = set(view.case.label or ())
        for path, reading in readings.items():
            if path in self.shared:
                continue
            if sound and reading.state is not None and path in view.probes:
                self.cache.store(path, reading.state, Entry(reading.digest, view.probes[path]), is_mask=path in masks)
            elif reading.cached is None:
                self.cache.drop(path)
