"""Leaks that the manifest reveals: the same patient, file, volume or film in training and in validation or test.

Leaks that only pixels reveal are in `pipeline.datasets.checks.leaks.copies`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pipeline.datasets.checks.leaks.volume_names import group_volumes
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.issues import Issue, Severity


@dataclass(frozen=True)
class Leak(Issue):
    """A finding about two files."""

    other: str = ""  #: the other file, relative to the dataset's folder
    other_record: str = ""  #: the case of the other file


@dataclass(frozen=True)
class Occurrence:
    """A file of a case, with a key that equal files share."""

    case: Case  #: the case
    path: str  #: its file
    key: str = ""  #: digest of the bytes or the pixels


def make_leak(code: str, severity: Severity, message: str, sides: tuple[Occurrence, Occurrence], hint: str) -> Leak:
    """Return a finding about the first of two files, with the other file."""
    (case, path), (other, other_path) = ((side.case, side.path) for side in sides)
    return Leak(code, severity, message, case.case_id, path, hint, other=other_path, other_record=other.case_id)


def find_leaking_subjects(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``leak-patient`` for each subject with cases in two splits or folds.

    Subjects are compared stripped and case-folded; unknown subjects never match. Named splits are checked too: one that
    divides a film in time, with frames left out between training and validation, is a warning, ``leak-time``.
    """
    by_subject: dict[str, list[Case]] = defaultdict(list)
    for case in manifest.cases:
        by_subject[case.subject_key()].append(case)
    named = {
        name: dict.fromkeys(split.get("exclude", ()), "") | dict.fromkeys(split["val"], "val")
        for name, split in manifest.named_splits.items()
    }
    for cases in by_subject.values():
        parts = {name_part(case): case for case in reversed(cases)}
        if len(parts) > 1:
            yield _leak_subject(cases[0].subject, parts)
        for name, listed in named.items():
            yield from _find_divided(name, listed, cases)


def _find_divided(name: str, listed: Mapping[str, str], cases: Sequence[Case]) -> Iterator[Leak]:
    """Yield a finding if a named split, the part of each case that it lists, divides the cases of a subject."""
    part_of = {case.case_id: listed.get(case.case_id, "train") for case in cases}
    sides = {f"{name} {part_of[case.case_id]}": case for case in reversed(cases) if part_of[case.case_id]}
    if len(sides) < 2:
        return
    leak = _leak_subject(cases[0].subject, sides)
    if _is_divided_in_time(cases, part_of):
        parts = Counter(part_of.values())
        message = (
            f"film {cases[0].subject!r} is divided in time by the split {name!r}: {parts['train']} frames train,"
            f" {parts['val']} validate, {parts['']} between them are left out"
        )
        hint = "it is still the same film: prefer a score on another film"
        leak = replace(leak, code="leak-time", severity="warning", message=message, hint=hint)
    yield leak


def _is_divided_in_time(cases: Sequence[Case], part_of: Mapping[str, str]) -> bool:
    """Return whether all cases are frames of films, with excluded frames between training and validation."""
    films: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for case in cases:
        sequence, frame = case.facts.get("sequence"), case.facts.get("frame")
        if sequence is None or frame is None:
            return False
        films[sequence].append((frame, part_of[case.case_id]))
    in_order = [[part for _, part in sorted(frames)] for frames in films.values()]
    return not any({one, other} == {"train", "val"} for parts in in_order for one, other in pairwise(parts))


def _leak_subject(subject: str, parts: dict[str, Case]) -> Leak:
    places = ", ".join(f"{part} ({parts[part].case_id})" for part in sorted(parts))
    message = f"patient {subject!r} is in {len(parts)} parts: {places}"
    hint = "keep all cases of a patient together, as pipeline dataset split does"
    return make_leak("leak-patient", "error", message, _pick_sides(parts), hint)


def find_leaking_files(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``leak-file`` for each case with images whose bytes are in another split or fold too.

    Masks are not compared, because all empty masks of a size are equal; nor are headers without voxels, which all scans
    of one protocol may share.
    """
    files = (
        Occurrence(case, path, case.sha256[path])
        for case in manifest.cases
        for path in case.image
        if path in case.sha256 and not is_bare_header(path)
    )
    yield from report_copies("leak-file", "bytes", files)


def is_bare_header(path: str) -> bool:
    """Return whether a file is a header whose voxels are in another file, which the manifest does not name."""
    return path.lower().endswith((".mhd", ".nhdr"))


def report_copies(code: str, what: str, occurrences: Iterable[Occurrence]) -> Iterator[Leak]:
    """Yield an error for each pair of cases in different parts that share keys, ``what`` being bytes or pixels.

    The files come in the manifest's order; only the first of a pair is named, further ones are counted.
    """
    first: dict[str, Occurrence] = {}
    shared: dict[tuple[str, str], list[tuple[Occurrence, Occurrence]]] = defaultdict(list)
    for own in occurrences:
        origin = first.setdefault(own.key, own)
        if name_part(origin.case) != name_part(own.case):
            shared[own.case.case_id, origin.case.case_id].append((own, origin))
    for pairs in shared.values():
        own, origin = pairs[0]
        parts = f"one is in {name_part(origin.case)}, the other in {name_part(own.case)}"
        more = f" ({len(pairs)} files of the two cases are equal)" if len(pairs) > 1 else ""
        message = f"the same {what} as {origin.path}: {parts}{more}"
        yield make_leak(code, "error", message, (own, origin), "remove one of them")


def find_leaking_volumes(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``leak-volume`` for each volume or film, by names or facts, that is in two splits or folds.

    Volumes of one known patient are left to ``leak-patient``.
    """
    for volume in group_volumes(manifest):
        parts: dict[str, list[Case]] = defaultdict(list)
        for case in volume.cases:
            parts[name_part(case)].append(case)
        if len(parts) < 2 or len({case.subject_key() for case in volume.cases}) == 1:
            continue
        counts = ", ".join(f"{len(parts[part])} in {part}" for part in sorted(parts))
        images = f"one {volume.kind} {volume.name!r} of {len(volume.cases)} images"
        message = f"file names suggest {images} that is split across parts: {counts}"
        hint = "give its cases one subject in the manifest, then pipeline dataset split keeps them together"
        sides = _pick_sides({part: cases[0] for part, cases in parts.items()})
        yield make_leak("leak-volume", "warning", message, sides, hint)


def name_part(case: Case) -> str:
    """Return the part of a case that must not share data with others: its fold, or its split without a fold.

    Example:
        >>> name_part(Case("a", "", ("a.tif",), fold=2)), name_part(Case("a", "", ("a.tif",), split="test", fold=2))
        ('fold 2', 'test')
    """
    return case.split if case.split == "test" or case.fold is None else f"fold {case.fold}"


def _pick_sides(parts: Mapping[str, Case]) -> tuple[Occurrence, Occurrence]:
    """Return the first images of two cases; the finding is about the case in test, or else in validation."""
    order = sorted(parts, key=lambda part: (part == "test", part == "val" or part.endswith(" val"), part))
    first, last = (parts[part] for part in (order[0], order[-1]))
    own, other = (Occurrence(case, case.image[0] if case.image else "") for case in (last, first))
    return own, other
