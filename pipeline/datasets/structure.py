"""Checks that need nothing but the manifest: ids, paths, pairs, named splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.datasets.manifest import Manifest
from pipeline.issues import Issue, Severity


def find_duplicate_ids(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``duplicate-id`` for each case id that occurs again; a warning if only upper and lower case differ."""
    places = [(f"cases[{index}]", case.case_id) for index, case in enumerate(manifest.cases)]
    for place, name, before, severity in _find_repeated(places):
        message = f"the case id {name!r} is taken by {before}"
        yield Issue("duplicate-id", severity, message, record=place, hint="give each case its own id")


def find_duplicate_paths(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``duplicate-path`` for files that are listed again, ``image-is-mask`` for images that are masks too."""
    images = [(case.case_id, path) for case in manifest.cases for path in case.image]
    masks = [(case.case_id, path) for case in manifest.cases for path in case.label or ()]
    for places in (images, masks):
        for record, path, before, severity in _find_repeated(places):
            yield Issue("duplicate-path", severity, f"also listed by {before}", record=record, path=path)
    owners = {path: record for record, path in images}
    for record, path in masks:
        if path in owners:
            message = f"is a mask here and the image of {owners[path]}"
            yield Issue("image-is-mask", "error", message, record=record, path=path)


def _find_repeated(places: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, str, Severity]]:
    """Yield (place, value, earlier place, severity) of each value that was there before."""
    exact: dict[str, str] = {}
    folded: dict[str, str] = {}
    for place, value in places:
        if value in exact:
            yield place, value, exact[value], "error"
        elif value.casefold() in folded:
            # Two files here, one file on a disk that ignores case.
            yield place, value, folded[value.casefold()], "warning"
        exact.setdefault(value, place)
        folded.setdefault(value.casefold(), place)


def find_unpaired_slices(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``shape-mismatch`` for each case with another number of mask files than image files."""
    for case in manifest.cases:
        if case.label is not None and len(case.label) != len(case.image):
            message = f"{len(case.image)} image files, but {len(case.label)} mask files"
            path = case.image[0] if case.image else ""
            yield Issue("shape-mismatch", "error", message, record=case.case_id, path=path)


def find_wrong_splits(manifest: Manifest) -> Iterator[Issue]:
    """Yield ``split`` for unknown ids in named splits, folds of test cases, and training without cases."""
    known = {case.case_id for case in manifest.cases}
    for name, split in manifest.named_splits.items():
        for case_id in split["val"]:
            if case_id not in known:
                message = f"{case_id!r} is no case of the manifest"
                yield Issue("split", "error", message, record=f"named_splits.{name}")
    for case in manifest.cases:
        if case.split == "test" and case.fold is not None:
            message = f"a test case with fold {case.fold}; the fold is ignored"
            yield Issue("split", "warning", message, record=case.case_id)
    if all(case.split == "test" for case in manifest.cases):
        what = "all cases are test, none is left for training" if manifest.cases else "the manifest has no cases"
        yield Issue("split", "warning", what, record="cases")
