"""Checks of the manifest without reading files: ids, paths, pairs, named splits."""

from collections.abc import Iterable, Iterator

from pipeline.datasets.manifests.manifest import Case, Manifest, normalise_subject
from pipeline.datasets.probes import VOLUMES, expected_format
from pipeline.issues import Issue, Severity


def find_duplicate_ids(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``duplicate-id`` for each repeated case id; a warning if only upper and lower case differ."""
    places = [(f"cases[{index}]", case.case_id) for index, case in enumerate(manifest.cases)]
    for place, name, before, severity in _find_repeated(places):
        message = f"the case id {name!r} is already used by {before}"
        yield Issue("duplicate-id", severity, message, record=place, hint="give each case its own id")


def find_duplicate_paths(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``duplicate-path`` for images that are listed twice, ``image-is-mask`` for images that are masks too.

    A mask of several cases is ``shared-mask``: unlike an image it may be intended, for example for a phantom that was
    scanned several times.
    """
    images = [(case.case_id, path) for case in manifest.cases for path in case.image]
    masks = [(case.case_id, path) for case in manifest.cases for path in case.label or ()]
    for record, path, before, severity in _find_repeated(images):
        hint = "list every image once" if severity == "error" else "rename one, because some disks ignore case"
        yield Issue("duplicate-path", severity, f"also listed by {before}", record=record, path=path, hint=hint)
    yield from _find_repeated_masks(masks)
    owners = {path: record for record, path in images}
    for record, path in masks:
        if path in owners:
            message = f"is a mask here and the image of {owners[path]}"
            yield Issue("image-is-mask", "error", message, record=record, path=path)


def _find_repeated_masks(masks: Iterable[tuple[str, str]]) -> Iterator[Issue]:
    for record, path, before, severity in _find_repeated(masks):
        if severity == "error" and before != record:
            message, hint = f"is the mask of {before} too", "give each image its own mask"
            yield Issue("shared-mask", "warning", message, record=record, path=path, hint=hint)
        else:
            yield Issue("duplicate-path", severity, f"also listed by {before}", record=record, path=path)


def _find_repeated(places: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, str, Severity]]:
    """Yield (place, value, earlier place, severity) of each repeated value."""
    exact: dict[str, str] = {}
    folded: dict[str, str] = {}
    for place, value in places:
        if value in exact:
            yield place, value, exact[value], "error"
        elif value.casefold() in folded:
            # A disk that ignores case stores only one of the two.
            yield place, value, folded[value.casefold()], "warning"
        exact.setdefault(value, place)
        folded.setdefault(value.casefold(), place)


def find_unpaired_slices(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``shape-mismatch`` for each case whose number of mask files does not fit its image files.

    Each file of a stack has a mask; the channels of an image and the files of a series share one. A picture may have
    several masks, which are united.
    """
    for case in manifest.cases:
        wanted = len(case.image) if manifest.stacking == "slices" else 1
        united = manifest.stacking == "slices" and case.has_several_masks() and _is_picture(case)
        if case.label is not None and len(case.label) != wanted and not united:
            message = f"{len(case.image)} image files, but {len(case.label)} mask files"
            path = case.image[0] if case.image else ""
            yield Issue("shape-mismatch", "error", message, record=case.case_id, path=path)


def _is_picture(case: Case) -> bool:
    return all(expected_format(path) not in (*VOLUMES, "DICOM") for path in case.files())


def find_wrong_splits(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``split`` for unknown ids in named splits, folds of test cases, and splits without cases."""
    known = {case.case_id for case in manifest.cases}
    for name, split in manifest.named_splits.items():
        place = f"named_splits.{name}"
        excluded = split.get("exclude", [])
        for case_id in [*split["val"], *excluded]:
            if case_id not in known:
                yield Issue("split", "error", f"{case_id!r} is not a case of the manifest", record=place)
        for case_id in sorted(set(split["val"]) & set(excluded)):
            yield Issue("split", "error", f"{case_id!r} is excluded, but also in the validation set", record=place)
        if not split["val"]:
            yield Issue("split", "error", "the list of validation cases is empty", record=place)
    for case in manifest.cases:
        if case.split == "test" and case.fold is not None:
            message = f"a test case with fold {case.fold}; the fold is ignored"
            yield Issue("split", "warning", message, record=case.case_id)
    yield from _find_empty_splits(manifest)


def _find_empty_splits(manifest: Manifest) -> Iterator[Issue]:
    if all(case.split == "test" for case in manifest.cases):
        what = "all cases are test cases, so training has none" if manifest.cases else "the manifest has no cases"
        yield Issue("split", "warning", what, record="cases")
        return
    free = [case for case in manifest.cases if case.split != "test"]
    folds = {case.fold for case in free}
    if len(folds) == 1 and None not in folds:
        message = f"all cases are in fold {free[0].fold}, so training has none"
    elif folds == {None} and all(case.split == "val" for case in free):
        message = "all cases are validation or test cases, so training has none"
    else:
        return
    yield Issue("split", "error", message, record="cases", hint="pipeline dataset split makes folds")


def check_subjects(manifest: Manifest, required: bool) -> Iterator[Issue]:
    """Yield ``patient-missing`` once, with the number of cases whose patient is unknown; an error if ``required``.

    Each such case counts as a separate patient.
    """
    unknown = [case for case in manifest.cases if not normalise_subject(case.subject)]
    if unknown:
        severity: Severity = "error" if required else "warning"
        message = f"{len(unknown)} of {len(manifest.cases)} cases have no patient, so their leaks cannot be found"
        hint = 'give each case its "subject"; images of one patient must not be in two splits'
        first = unknown[0]
        path = first.image[0] if first.image else ""
        yield Issue("patient-missing", severity, message, record=first.case_id, path=path, hint=hint)
