"""Patient-level splits: a test set, a validation set or folds, without separating related cases."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from scipy.cluster.hierarchy import DisjointSet

from pipeline.datasets.manifests.manifest import SPLITS, Case, Manifest, Split, normalise_subject
from pipeline.datasets.splits.assignment import Subject, assign_folds, draw_share, pack_folds
from pipeline.issues import InputError

By = Literal["subject", "sequence", "group"]
Resplit = Literal["", "val", "all"]
_NOUNS = {"subject": "subjects", "sequence": "sequences", "group": "groups"}


def split_manifest(
    manifest: Manifest,
    *,
    folds: int,
    seed: int,
    test_ids: Sequence[str] | None = None,
    test_share: float | None = None,
    val_share: float | None = None,
    by: By = "subject",
    together: Iterable[Collection[str]] = (),
    resplit: Resplit = "",
) -> Manifest:
    """Return the manifest with a test set and folds over the rest, whole subjects together.

    A subject that has a case in the test set belongs to it with all its cases.

    Args:
        manifest: its folds are replaced; its test and validation sets are kept, see ``resplit``.
        folds: number of folds over the cases that are not test; 0: none, as for official validation sets.
        seed: any integer; the same seed gives the same parts.
        test_ids: case ids or subjects of the test set; None keeps the cases that are ``"test"`` already.
        test_share: draw this share of the subjects as test set.
        val_share: draw this share of the subjects as validation set instead of folds.
        by: unit that is never divided: a subject, a film (the fact ``sequence``), or a group such as an institution,
            so that whole groups are held out. Films and groups keep their subjects together too.
        together: sets of case ids or subjects that must not be separated, such as near duplicates; a name that is both
            is the case.
        resplit: ``"val"``: cases of the validation set may become training cases; ``"all"``: those of the test set too.

    Raises:
        InputError: an id is unknown, or names a case and another subject; there are too few subjects, options
            contradict each other, or the manifest has a test or validation set that would have to be replaced.
    """
    unit_of = join_subjects(manifest, by, together)
    fixed = _keep_parts(manifest, unit_of, test_ids, resplit)
    _require_consistent(manifest, fixed, folds, test_share, val_share)
    units = gather_units(manifest.cases, unit_of, by)
    noun = "sets of subjects" if together and by == "subject" else _NOUNS[by]
    shares: tuple[tuple[Split, float | None], ...] = (("test", test_share), ("val", val_share))
    for part, share in shares:
        if share is not None:
            drawn = draw_share([unit for unit in units if unit.key not in fixed], share, seed, part, noun)
            fixed |= dict.fromkeys(drawn, part)
    pool = [unit for unit in units if unit.key not in fixed]
    if not pool:
        raise InputError(f"manifest {manifest.name!r}: all cases are test or val, none is left for training")
    fold_of: dict[str, int] = {}
    if folds and by == "group":
        cases_of = Counter(unit_of[case.subject_key()] for case in manifest.cases)
        fold_of = pack_folds({unit.key: cases_of[unit.key] for unit in pool}, folds, seed, noun)
    elif folds:
        fold_of = assign_folds(pool, folds, seed, noun)
    return replace(manifest, cases=tuple(_place(case, unit_of, fixed, fold_of) for case in manifest.cases))


def _place(case: Case, unit_of: Mapping[str, str], fixed: Mapping[str, Split], fold_of: Mapping[str, int]) -> Case:
    unit = unit_of[case.subject_key()]
    return replace(case, split=fixed.get(unit, "train"), fold=fold_of.get(unit))


def _keep_parts(
    manifest: Manifest, unit_of: Mapping[str, str], test_ids: Sequence[str] | None, resplit: Resplit
) -> dict[str, Split]:
    """Return the units whose part the list or the manifest determines."""
    kept = {"val": {"test"}, "all": set()}.get(resplit, {"test", "val"})
    parts: dict[str, Split] = {}
    # Test comes last: a subject in both is test.
    for part in ("val", "test"):
        if part in kept:
            own = [unit_of[case.subject_key()] for case in manifest.cases if case.split == part]
            parts |= dict.fromkeys(own, part)
    if test_ids is None:
        return parts
    before = {unit for unit, part in parts.items() if part == "test"}
    by_name = _index_names(manifest)
    names = require_known(test_ids, by_name, manifest.name)
    _require_clear(names, manifest, unit_of)
    listed = {unit_of[by_name[name]] for name in names}
    if before - listed:
        raise InputError(
            f"manifest {manifest.name!r} has a test set already, and {len(before - listed)} of its subjects are not in"
            " the list; --resplit all replaces it"
        )
    return {unit: part for unit, part in parts.items() if unit not in listed} | dict.fromkeys(listed, "test")


def _require_consistent(
    manifest: Manifest, fixed: Mapping[str, Split], folds: int, test_share: float | None, val_share: float | None
) -> None:
    if folds < 0:
        raise InputError(f"the number of folds must not be negative, got {folds}")
    if folds and val_share is not None:
        raise InputError("folds replace a validation set: choose --folds or --val-share")
    parts = Counter(fixed.values())
    if test_share is not None and parts["test"]:
        raise InputError(
            f"manifest {manifest.name!r} has a test set already ({parts['test']} subjects);"
            " --resplit all draws a new one"
        )
    if (folds or val_share is not None) and parts["val"]:
        raise InputError(
            f"manifest {manifest.name!r} has a validation set already ({parts['val']} subjects); --folds 0 keeps it,"
            " --resplit val splits its cases again with the training cases"
        )


def join_subjects(manifest: Manifest, by: By = "subject", together: Iterable[Collection[str]] = ()) -> dict[str, str]:
    """Return the unit of each subject, named by its first member: the subjects that must not be separated from it.

    ``by`` and ``together`` are those of `split_manifest`. Raises `InputError` if an id is unknown, or a case lacks the
    fact that ``by`` needs.
    """
    by_name = _index_names(manifest)
    groups = [] if by == "subject" else list(_index_facts(manifest, by).values())
    groups += [[by_name[name] for name in require_known(sorted(ids), by_name, manifest.name)] for ids in together]
    units = DisjointSet(by_name.values())
    for keys in groups:
        for key in keys[1:]:
            units.merge(keys[0], key)
    unit_of: dict[str, str] = {}
    for unit in units.subsets():
        unit_of |= dict.fromkeys(unit, min(unit))
    return unit_of


def _index_names(manifest: Manifest) -> dict[str, str]:
    """Return the subject of each case id and of each subject's name; a name that is both is the case."""
    return _index_subjects(manifest) | {case.case_id: case.subject_key() for case in manifest.cases}


def _index_subjects(manifest: Manifest) -> dict[str, str]:
    return {case.subject: case.subject_key() for case in manifest.cases if normalise_subject(case.subject)}


def _require_clear(names: Iterable[str], manifest: Manifest, unit_of: Mapping[str, str]) -> None:
    """Raise `InputError` if a name is a case and another subject, so that either could be meant."""
    by_name, by_subject = _index_names(manifest), _index_subjects(manifest)
    unclear = {name for name, key in by_subject.items() if unit_of[key] != unit_of[by_name[name]]}
    for name in filter(unclear.__contains__, names):
        keys = (by_name[name], by_subject[name])
        clear = [next((one for one, own in by_name.items() if own == key and one not in unclear), "") for key in keys]
        hint = "give the subjects other names"
        if all(clear):
            hint = f"each stands for its whole subject: type {clear[0]} for the first, {clear[1]} for the second"
        owner = next(case.subject for case in manifest.cases if case.case_id == name)
        what = f"a case of the subject {owner!r}" if owner else "a case without subject"
        raise InputError(f"{name!r} is {what}, and also the name of another subject; {hint}")


def _index_facts(manifest: Manifest, fact: str) -> dict[str, list[str]]:
    lacking = [case.case_id for case in manifest.cases if not case.facts.get(fact)]
    if lacking:
        raise InputError(
            f"--by {fact}: {len(lacking)} of {len(manifest.cases)} cases name no {fact}, for example {lacking[0]}"
        )
    subjects: dict[str, list[str]] = defaultdict(list)
    for case in manifest.cases:
        subjects[str(case.facts[fact])].append(case.subject_key())
    return subjects


def gather_units(cases: Iterable[Case], unit_of: Mapping[str, str], by: By) -> list[Subject]:
    """Return the units; sizes add up over the cases of a unit, None if one is unknown."""
    own_cases: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        own_cases[unit_of[case.subject_key()]].append(case)
    units = []
    for key, own in own_cases.items():
        sizes = [case.facts.get("foreground") for case in own]
        size = None if None in sizes else sum(size for size in sizes if size is not None)
        # The least name, so that the order of the cases does not matter.
        group = "" if by == "group" else min(str(case.facts.get("group") or "") for case in own)
        units.append(Subject(key, group=group, size=size))
    return units


def describe_folds(manifest: Manifest) -> list[str]:
    """Return one line per part: cases, groups, and the mean size where it is known."""
    folds = sorted({case.fold for case in manifest.cases if case.fold is not None})
    parts = {f"fold {fold}": [case for case in manifest.cases if case.fold == fold] for fold in folds}
    for split in SPLITS:
        parts[split] = [case for case in manifest.cases if case.split == split and case.fold is None]
    return [_describe_part(name, cases) for name, cases in parts.items() if cases or name == "test"]


def _describe_part(name: str, cases: Sequence[Case]) -> str:
    groups = Counter(str(case.facts.get("group") or "?") for case in cases)
    sizes = [case.facts["foreground"] for case in cases if case.facts.get("foreground") is not None]
    mean = f", mean foreground {sum(sizes) / len(sizes):.0f} voxels" if sizes else ""
    counts = " ".join(f"{group}:{groups[group]}" for group in sorted(groups))
    shown = f" ({counts})" if set(groups) - {"?"} else ""
    return f"  {name}: {len(cases)} cases{shown}{mean}"


def describe_changes(before: Manifest, after: Manifest, resplit: str) -> Iterator[str]:
    """Yield a line per surprise: unknown subjects, official sets kept or replaced, and cases that changed sets.

    The manifests are those before and after; ``resplit`` names the official sets that were replaced: ``""``,
    ``"val"`` or ``"all"``.
    """
    unknown = sum(case.subject_key().startswith("case:") for case in after.cases)
    if unknown:
        yield f"{unknown} of {len(after.cases)} cases name no subject; each counts as a separate subject"
    official = Counter(case.split for case in before.cases if case.split != "train")
    for split, number in sorted(official.items()):
        yield f"the manifest's {split} set ({number} cases) was {'replaced' if resplit in ('all', split) else 'kept'}"
    if resplit:
        return
    moved = Counter(
        (old.split, new.split)
        for old, new in zip(before.cases, after.cases, strict=True)
        if old.split != new.split and new.split in official
    )
    for (old_split, new_split), number in sorted(moved.items()):
        yield f"{number} {old_split} cases moved to {new_split} because they belong together with {new_split} cases"


def add_named_split(
    manifest: Manifest, name: str, val_ids: Sequence[str], description: str = "", exclude_ids: Sequence[str] = ()
) -> Manifest:
    """Return the manifest with a further validation set that ``fold=name`` selects.

    Cases of ``exclude_ids`` are in neither part, such as frames between the two parts of a film. Raises `InputError`
    if a case id is unknown, or in both lists.
    """
    known = {case.case_id: case.case_id for case in manifest.cases}
    entry: dict[str, object] = {"description": description, "val": sorted(require_known(val_ids, known, manifest.name))}
    if exclude_ids:
        both = sorted(set(val_ids) & set(exclude_ids))
        if both:
            raise InputError(
                f"{both[0]!r} is both excluded from the split {name!r} and in its validation set; list it once"
            )
        entry["exclude"] = sorted(require_known(exclude_ids, known, manifest.name))
    return replace(manifest, named_splits={**manifest.named_splits, name: entry})


def require_known(names: Sequence[str], known: Mapping[str, str], dataset: str) -> Sequence[str]:
    """Return the names; raise `InputError` if one is not a known case id or subject."""
    unknown = [name for name in names if name not in known]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise InputError(f"{unknown[0]!r}{more}: not in the manifest {dataset!r}")
    return names


def read_id_list(path: Path) -> tuple[list[str], str]:
    """Read a list of ids, one per line, and its description, the lines that start with ``#``.

    Raises `InputError` if the file cannot be read or holds no id.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the list of ids {path}: {error}") from None
    ids = [line for line in lines if line and not line.startswith("#")]
    if not ids:
        raise InputError(f"the list of ids {path} is empty; write one case id per line")
    return ids, " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))


def read_named_split(path: Path) -> tuple[list[str], str, list[str]]:
    """Read the list of a named split: like `read_id_list`; lines ``exclude: ID`` name cases of neither part.

    Returns ids of the validation set, the description, excluded ids: the arguments of `add_named_split`. Raises
    `InputError` if the file cannot be read or holds no id for validation.
    """
    lines, description = read_id_list(path)
    parts: tuple[list[str], list[str]] = ([], [])
    for line in lines:
        case_id = line.removeprefix("exclude:")
        parts[case_id != line].append(case_id.strip())
    if not parts[0]:
        raise InputError(f"the list of ids {path} excludes cases but names none for validation; write one id per line")
    return parts[0], description, parts[1]
