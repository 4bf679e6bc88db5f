"""Patient-level splits: folds stratified by group and size, reproducible by seed on every machine."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.datasets.manifest import Case, Manifest
from pipeline.issues import InputError


@dataclass(frozen=True)
class Subject:
    """What stratification knows of a subject.

    Args:
        key: the subject's name as compared: stripped and case-folded.
        group: stratum, for example the institution; "" if unknown.
        size: foreground over all cases in voxels; None if unknown.
    """

    key: str
    group: str = ""
    size: int | None = None


def assign_folds(subjects: Iterable[Subject], folds: int, seed: int) -> dict[str, int]:
    """Deal subjects into folds.

    In each group the subjects are put in order of size and dealt in rounds of ``folds`` neighbours, one to each fold,
    in random order; an incomplete last round goes to the smallest folds. So the folds' counts differ by one at most,
    within every group and in total, and every fold gets small and large ones. Randomness comes from sha256 of seed and
    name: the same on every machine and Python, whatever the order of the input.

    Args:
        subjects: the subjects, keys unique.
        folds: number of folds, at least 2.
        seed: any integer.

    Returns:
        Fold, 0 to ``folds - 1``, by subject key.

    Raises:
        InputError: fewer than two folds, or fewer subjects than folds.

    Example:
        >>> sorted(assign_folds([Subject("a", size=1), Subject("b", size=2)], folds=2, seed=0).values())
        [0, 1]
    """
    pool = {subject.key: subject for subject in subjects}
    if folds < 2:
        raise InputError(f"at least 2 folds are needed, got {folds}")
    if len(pool) < folds:
        raise InputError(f"{folds} folds need at least {folds} subjects that are not test, got {len(pool)}")
    groups: dict[str, list[Subject]] = defaultdict(list)
    for subject in pool.values():
        groups[subject.group].append(subject)
    counts = [0] * folds
    result: dict[str, int] = {}
    for group in sorted(groups):
        # Unknown sizes are dealt last, among themselves.
        ordered = sorted(groups[group], key=lambda s: (s.size is None, s.size or 0, _draw(seed, "size", s.key)))
        for start in range(0, len(ordered), folds):
            deal = sorted(ordered[start : start + folds], key=lambda s: _draw(seed, "deal", s.key))
            places = sorted(
                (counts[fold], _draw(seed, "fold", f"{group}/{start}/{fold}"), fold) for fold in range(folds)
            )
            for subject, (_, _, fold) in zip(deal, places, strict=False):
                result[subject.key] = fold
                counts[fold] += 1
    return result


def _draw(seed: int, purpose: str, key: str) -> str:
    return hashlib.sha256(f"{seed}/{purpose}/{key}".encode()).hexdigest()


def split_manifest(manifest: Manifest, *, folds: int, seed: int, test_ids: Sequence[str] | None = None) -> Manifest:
    """Return the manifest with a test set and folds over the rest, whole subjects together.

    Args:
        manifest: its splits and folds are replaced.
        folds: number of folds over the cases that are not test.
        seed: any integer; the same seed gives the same folds.
        test_ids: case ids or subjects of the test set; None keeps the cases that are ``"test"`` already.

    Raises:
        InputError: an id of the test set is unknown, or there are too few subjects.
    """
    if test_ids is None:
        test = {case.subject_key() for case in manifest.cases if case.split == "test"}
    else:
        by_name = {case.case_id: case.subject_key() for case in manifest.cases}
        by_name.update({case.subject: case.subject_key() for case in manifest.cases})
        test = {by_name[name] for name in require_known(test_ids, by_name, manifest.name)}
    pool = [case for case in manifest.cases if case.subject_key() not in test]
    fold_of = assign_folds(gather_subjects(pool), folds, seed)
    cases = []
    for case in manifest.cases:
        fold = fold_of.get(case.subject_key())
        cases.append(replace(case, split="test" if fold is None else "train", fold=fold))
    return replace(manifest, cases=tuple(cases))


def gather_subjects(cases: Iterable[Case]) -> list[Subject]:
    """Return the subjects of the cases; sizes add up over a subject's cases, None if one is unknown."""
    by_subject: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_subject[case.subject_key()].append(case)
    subjects = []
    for key, own in by_subject.items():
        sizes = [case.facts.get("foreground") for case in own]
        size = None if None in sizes else sum(size for size in sizes if size is not None)
        subjects.append(Subject(key, group=str(own[0].facts.get("group") or ""), size=size))
    return subjects


def describe_folds(manifest: Manifest) -> list[str]:
    """Return a line a fold: cases, groups, and the mean size where it is known."""
    folds = sorted({case.fold for case in manifest.cases if case.fold is not None})
    parts = {f"fold {fold}": [case for case in manifest.cases if case.fold == fold] for fold in folds}
    parts["test"] = [case for case in manifest.cases if case.split == "test"]
    lines = []
    for name, cases in parts.items():
        groups = Counter(str(case.facts.get("group") or "?") for case in cases)
        sizes = [case.facts["foreground"] for case in cases if case.facts.get("foreground") is not None]
        mean = f", mean foreground {sum(sizes) / len(sizes):.0f} voxels" if sizes else ""
        counts = " ".join(f"{group}:{groups[group]}" for group in sorted(groups))
        lines.append(f"  {name}: {len(cases)} cases ({counts}){mean}")
    return lines


def add_named_split(manifest: Manifest, name: str, val_ids: Sequence[str], description: str = "") -> Manifest:
    """Return the manifest with a further validation set that ``fold=name`` selects.

    Raises:
        InputError: a case id is unknown.
    """
    known = {case.case_id: case.case_id for case in manifest.cases}
    entry = {"description": description, "val": sorted(require_known(val_ids, known, manifest.name))}
    return replace(manifest, named_splits={**manifest.named_splits, name: entry})


def require_known(names: Sequence[str], known: Mapping[str, str], dataset: str) -> Sequence[str]:
    """Return the names if all are known.

    Raises:
        InputError: names the first unknown one.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise InputError(f"{unknown[0]!r}{more} is no case of the manifest {dataset!r}")
    return names


def read_ids(path: Path) -> tuple[list[str], str]:
    """Read a list of ids, one a line; lines that start with ``#`` are its description.

    Raises:
        InputError: the file cannot be read or holds no id.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the list of ids {path}: {error}") from None
    ids = [line for line in lines if line and not line.startswith("#")]
    if not ids:
        raise InputError(f"the list of ids {path} is empty; write one case id a line")
    return ids, " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
