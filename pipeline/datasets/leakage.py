"""Leaks: what a model could have seen in training comes back in validation or test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pipeline.datasets.manifest import Case, Manifest
from pipeline.issues import Issue


def find_leaking_subjects(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``leak-patient`` for each subject with cases in two splits or folds.

    Subjects are compared stripped and case-folded. Named splits are looked at too.
    """
    by_subject: dict[str, list[Case]] = defaultdict(list)
    for case in manifest.cases:
        by_subject[case.subject_key()].append(case)
    named_val = {name: set(split["val"]) for name, split in manifest.named_splits.items()}
    for cases in by_subject.values():
        parts = {_part(case): case for case in reversed(cases)}
        if len(parts) > 1:
            yield _leak(cases[0].subject, parts)
        for name, val in named_val.items():
            sides = {f"{name} {'val' if case.case_id in val else 'train'}": case for case in reversed(cases)}
            if len(sides) > 1:
                yield _leak(cases[0].subject, sides)


def _leak(subject: str, parts: dict[str, Case]) -> Issue:
    places = ", ".join(f"{part} ({parts[part].case_id})" for part in sorted(parts))
    return Issue(
        "leak-patient",
        "error",
        f"patient {subject!r} is in {len(parts)} parts: {places}",
        record=parts[max(parts)].case_id,
        path=parts[max(parts)].image[0] if parts[max(parts)].image else "",
        hint="keep all cases of a patient together: pipeline dataset split does",
    )


def find_leaking_files(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``leak-file`` for each image whose bytes are in two splits or folds, by the manifest's digests.

    Masks are not compared: all empty masks of a size are the same file.
    """
    first: dict[str, tuple[str, str]] = {}
    for case in manifest.cases:
        for path in case.image:
            digest = case.sha256.get(path)
            if digest is None:
                continue
            part, other = first.setdefault(digest, (_part(case), path))
            if part != _part(case):
                message = f"the same bytes as {other}: one is in {part}, the other in {_part(case)}"
                yield Issue("leak-file", "error", message, record=case.case_id, path=path, hint="remove one of them")


def _part(case: Case) -> str:
    return case.split if case.split == "test" or case.fold is None else f"fold {case.fold}"
