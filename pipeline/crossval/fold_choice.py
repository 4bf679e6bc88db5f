"""Which folds of a manifest are trained and scored."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.manifests.manifest import Manifest
from pipeline.issues import InputError

_USUAL = 5


@dataclass(frozen=True)
class FoldChoice:
    """Folds of a manifest."""

    chosen: tuple[int, ...]  #: those that are trained and scored
    total: int  #: number of folds in the manifest
    never: int  #: cases outside of the test set that are in no fold, so that only trainings use them


def choose_folds(manifest: Manifest, path: Path, number: int | None) -> FoldChoice:
    """Choose the first folds of a manifest, or all.

    Args:
        manifest: the dataset.
        path: its file, for messages.
        number: how many; None for all.

    Raises:
        InputError: there are no or too few folds, a case would be scored in each, or a subject stands in two.
    """
    cases = [case for case in manifest.cases if case.split != "test"]
    folds = sorted({case.fold for case in cases if case.fold is not None})
    fixed = [case for case in cases if case.fold is None and case.split == "val"]
    if not folds:
        raise InputError(f"{path} has no folds; {_suggest_split(manifest, path, number)}")
    if len(folds) == 1 or (number or 0) > len(folds):
        hint = _suggest_split(manifest, path, number)
        raise InputError(f"{path} has {len(folds)} fold{'s' * (len(folds) > 1)}, not {number or 'several'}; {hint}")
    if fixed:
        hint = _suggest_split(manifest, path, number)
        raise InputError(f"{path}: {fixed[0].case_id} is a validation case in every fold; {hint}")
    _require_apart(manifest, path, number)
    return FoldChoice(tuple(folds[:number]), len(folds), sum(case.fold is None for case in cases))


def _require_apart(manifest: Manifest, path: Path, number: int | None) -> None:
    places: dict[str, int] = {}
    for case in manifest.cases:
        if case.split == "test" or case.fold is None:
            continue
        if places.setdefault(case.subject_key(), case.fold) != case.fold:
            hint = _suggest_split(manifest, path, number)
            raise InputError(
                f"{path}: subject {case.subject} is in the folds {places[case.subject_key()]} and {case.fold}; {hint}"
            )


def _suggest_split(manifest: Manifest, path: Path, number: int | None) -> str:
    """Return the command that makes such folds."""
    cases = [case for case in manifest.cases if case.split != "test"]
    subjects = len({case.subject_key() for case in cases})
    if subjects < 2:
        return f"it has {subjects} subject outside of the test set, and at least 2 are needed"
    folds = min(number or _USUAL, subjects)
    target = f"{path.stem}_{max(2, folds)}_folds.json"
    resplit = " --resplit val" if any(case.split == "val" for case in cases) else ""
    command = f"python -m pipeline dataset split {shlex.quote(str(path))} --folds {max(2, folds)}{resplit} -o {target}"
    return f"make a manifest with folds: {command}, and name it with --manifest"
