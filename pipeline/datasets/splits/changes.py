"""Describe the changes of a split that a user may not expect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pipeline.datasets.manifests.manifest import Manifest


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
