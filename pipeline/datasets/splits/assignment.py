"""Assign subjects to folds and parts: stratified by group and size, reproducible by seed on every machine."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from pipeline.issues import InputError


@dataclass(frozen=True)
class Subject:
    """A subject, or several that must stay together, with the properties used for stratification."""

    key: str  #: the subject's name as compared: stripped and case-folded
    group: str = ""  #: stratum, for example the institution; "" if unknown
    size: int | None = None  #: foreground over all cases in voxels; None if unknown


def assign_folds(subjects: Iterable[Subject], folds: int, seed: int, noun: str = "subjects") -> dict[str, int]:
    """Assign subjects to folds.

    In each group, subjects are sorted by size and assigned in rounds of ``folds`` neighbours, one per fold, in random
    order; an incomplete last round goes to the smallest folds. So the folds' counts differ by at most one, within
    every group and in total, and every fold gets small and large ones. Randomness comes from the sha256 of seed and
    name: the same on every machine and Python version, independent of the order of the input.
    The subjects' keys must be unique; ``noun`` names the units in messages.

    Returns:
        Fold, 0 to ``folds - 1``, by subject key.

    Raises:
        InputError: fewer than two folds, or fewer subjects than folds.

    Example:
        >>> sorted(assign_folds([Subject("a", size=1), Subject("b", size=2)], folds=2, seed=0).values())
        [0, 1]
    """
    pool = {subject.key: subject for subject in subjects}
    _require_enough(pool, folds, noun)
    groups: dict[str, list[Subject]] = defaultdict(list)
    for subject in pool.values():
        groups[subject.group].append(subject)
    counts = [0] * folds
    result: dict[str, int] = {}
    for group in sorted(groups):
        # Unknown sizes come last, among themselves.
        ordered = sorted(groups[group], key=lambda s: (s.size is None, s.size or 0, _draw(seed, "size", s.key)))
        for start in range(0, len(ordered), folds):
            batch = sorted(ordered[start : start + folds], key=lambda s: _draw(seed, "deal", s.key))
            ranks = [(counts[fold], _draw(seed, "fold", f"{group}/{start}/{fold}"), fold) for fold in range(folds)]
            for subject, (_, _, fold) in zip(batch, sorted(ranks), strict=False):
                result[subject.key] = fold
                counts[fold] += 1
    return result


def pack_folds(weights: dict[str, int], folds: int, seed: int, noun: str = "groups") -> dict[str, int]:
    """Assign whole groups of very different size to folds: the largest first, each to the smallest fold.

    Arguments and result are those of `assign_folds`, with ``weights``, the number of cases by group; the seed only
    decides between equals.

    Example:
        >>> folds = pack_folds({"A": 45, "B": 34, "C": 16, "D": 14}, folds=2, seed=0)
        >>> folds["A"] == folds["D"], folds["B"] == folds["C"], folds["A"] == folds["B"]
        (True, True, False)
    """
    _require_enough(weights, folds, noun)
    loads = [0] * folds
    result: dict[str, int] = {}
    for key in sorted(weights, key=lambda key: (-weights[key], _draw(seed, "pack", key))):
        fold = min(range(folds), key=lambda fold: (loads[fold], _draw(seed, "fold", str(fold))))
        result[key] = fold
        loads[fold] += weights[key]
    return result


def draw_share(subjects: Iterable[Subject], share: float, seed: int, purpose: str, noun: str = "subjects") -> set[str]:
    """Draw a share of the subjects, stratified by group and size.

    All subjects are sorted by group, then size, and cut into as many neighbourhoods as subjects are wanted; one is
    drawn from each. So groups and sizes are represented in proportion. Seed and noun are those of `assign_folds`;
    ``purpose`` names the part, so that test and validation are drawn independently.

    Returns:
        Keys of the subjects drawn: at least one, but not all.

    Raises:
        InputError: the share is not between 0 and 1, or there are fewer than two subjects.

    Example:
        >>> len(draw_share([Subject(str(number), size=number) for number in range(10)], 0.2, 0, "test"))
        2
    """
    if not 0 < share < 1:
        raise InputError(f"the share of {purpose} must lie between 0 and 1, got {share:g}")
    ordered = sorted(subjects, key=lambda s: (s.group, s.size is None, s.size or 0, _draw(seed, "size", s.key)))
    if len(ordered) < 2:
        raise InputError(f"a {purpose} set needs at least 2 {noun} to draw from, got {len(ordered)}")
    wanted = min(max(1, int(share * len(ordered) + 0.5)), len(ordered) - 1)
    ends = [index * len(ordered) // wanted for index in range(wanted + 1)]
    keys = [subject.key for subject in ordered]
    return {min(keys[start:end], key=lambda key: _draw(seed, purpose, key)) for start, end in pairwise(ends)}


def _draw(seed: int, purpose: str, key: str) -> str:
    return hashlib.sha256(f"{seed}/{purpose}/{key}".encode()).hexdigest()


def _require_enough(pool: Iterable[str], folds: int, noun: str) -> None:
    names = sorted(pool)
    if folds < 2:
        raise InputError(f"at least 2 folds are needed, got {folds}")
    if len(names) < folds:
        only = f" ({names[0]})" if len(names) == 1 else ""
        raise InputError(f"{folds} folds need at least {folds} {noun} that are not test, got {len(names)}{only}")
