"""Leaks that the manifest alone tells: what a model could have seen in training comes back in validation or test.

Leaks that only pixels tell are in `pipeline.datasets.checks.leaks.copies`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from pipeline.datasets.checks.leaks.volume_names import group_volumes
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.issues import Issue


@dataclass(frozen=True)
class Leak(Issue):
    """A finding about two files.

    Args:
        other: the other file, relative to the dataset's folder.
        other_record: the case of the other file.
    """

    other: str = ""
    other_record: str = ""


@dataclass(frozen=True)
class Occurrence:
    """A file of a case with a key that equal files share.

    Args:
        case: the case.
        path: its file.
        key: digest of the bytes or the pixels.
    """

    case: Case
    path: str
    key: str


def find_leaking_subjects(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``leak-patient`` for each subject with cases in two splits or folds.

    Subjects are compared stripped and case-folded; unknown ones are nobody. Named splits are looked at too: one that
    divides a film in time, with frames left out wherever training and validation would meet, is a warning,
    ``leak-time``.
    """
    by_subject: dict[str, list[Case]] = defaultdict(list)
    for case in manifest.cases:
        by_subject[case.subject_key()].append(case)
    for cases in by_subject.values():
        parts = {name_part(case): case for case in reversed(cases)}
        if len(parts) > 1:
            yield _leak_subject(cases[0].subject, parts)
        for name, split in manifest.named_splits.items():
            yield from _find_divided(name, split, cases)


def _find_divided(name: str, split: Mapping[str, Any], cases: Sequence[Case]) -> Iterator[Leak]:
    """Yield a finding if a named split divides the cases of a subject."""
    part_of = dict.fromkeys(split.get("exclude", ()), "") | dict.fromkeys(split["val"], "val")
    part_of = {case.case_id: part_of.get(case.case_id, "train") for case in cases}
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
        hint = "it is one film all the same: a score on another film says more"
        leak = replace(leak, code="leak-time", severity="warning", message=message, hint=hint)
    yield leak


def _is_divided_in_time(cases: Sequence[Case], part_of: Mapping[str, str]) -> bool:
    """Tell whether all cases are frames of films, and an excluded one lies wherever training and validation meet."""
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
    order = sorted(parts, key=_rank)
    case, other = parts[order[-1]], parts[order[0]]
    return Leak(
        "leak-patient",
        "error",
        f"patient {subject!r} is in {len(parts)} parts: {places}",
        record=case.case_id,
        path=_first_image(case),
        hint="keep all cases of a patient together: pipeline dataset split does",
        other=_first_image(other),
        other_record=other.case_id,
    )


def find_leaking_files(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``leak-file`` for each case with images whose bytes are in another split or fold too.

    Masks are not compared: all empty masks of a size are the same file.
    """
    files = (
        Occurrence(case, path, case.sha256[path])
        for case in manifest.cases
        for path in case.image
        if path in case.sha256
    )
    yield from report_copies("leak-file", "bytes", files)


def report_copies(code: str, what: str, occurrences: Iterable[Occurrence]) -> Iterator[Leak]:
    """Yield an error for each pair of cases in different parts that share keys; further files are counted.

    Args:
        code: code of the findings.
        what: what is the same.
        occurrences: the files in the manifest's order.
    """
    first: dict[str, Occurrence] = {}
    shared: dict[tuple[str, str], list[tuple[Occurrence, Occurrence]]] = defaultdict(list)
    for own in occurrences:
        origin = first.setdefault(own.key, own)
        if name_part(origin.case) != name_part(own.case):
            shared[own.case.case_id, origin.case.case_id].append((own, origin))
    for pairs in shared.values():
        own, origin = pairs[0]
        message = f"the same {what} as {origin.path}: one is in {name_part(origin.case)}, the other in"
        more = f" ({len(pairs)} files of the two cases are equal)" if len(pairs) > 1 else ""
        yield Leak(
            code,
            "error",
            f"{message} {name_part(own.case)}{more}",
            record=own.case.case_id,
            path=own.path,
            hint="remove one of them",
            other=origin.path,
            other_record=origin.case.case_id,
        )


def find_leaking_volumes(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``leak-volume`` for each volume or film that names or facts suggest, if it is in two splits or folds.

    What is surely one patient's is left to ``leak-patient``.
    """
    for volume in group_volumes(manifest):
        parts: dict[str, list[Case]] = defaultdict(list)
        for case in volume.cases:
            parts[name_part(case)].append(case)
        if len(parts) < 2 or len({case.subject_key() for case in volume.cases}) == 1:
            continue
        counts = ", ".join(f"{len(parts[part])} in {part}" for part in sorted(parts))
        order = sorted(parts, key=_rank)
        case, other = parts[order[-1]][0], parts[order[0]][0]
        yield Leak(
            "leak-volume",
            "warning",
            f"names say that {len(volume.cases)} images are {volume.kind} {volume.name!r}, which is divided: {counts}",
            record=case.case_id,
            path=_first_image(case),
            hint="give its cases one subject in the manifest, then pipeline dataset split keeps them together",
            other=_first_image(other),
            other_record=other.case_id,
        )


def name_part(case: Case) -> str:
    """Return the part that must not share anything with others: the fold, or the split of cases without one.

    Example:
        >>> name_part(Case("a", "", ("a.tif",), fold=2)), name_part(Case("a", "", ("a.tif",), split="test", fold=2))
        ('fold 2', 'test')
    """
    return case.split if case.split == "test" or case.fold is None else f"fold {case.fold}"


def _rank(part: str) -> tuple[bool, bool, str]:
    """Sort parts by what their scores are for: the finding names the case in test, else the one in validation."""
    return part == "test", part == "val" or part.endswith(" val"), part


def _first_image(case: Case) -> str:
    return case.image[0] if case.image else ""
