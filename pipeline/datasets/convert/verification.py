"""Read a converted dataset back before it gets its final name: no case and no foreground voxel may be lost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.issues import InputError

# Options with which the readers leave nothing out.
_OPTIONS: dict[str, dict[str, Any]] = {"coco": {"categories": "keep", "unannotated": "negative"}}


def verify_result(target: str, folder: Path, manifest: Manifest, cases: Sequence[Case], pieces: int) -> None:
    """Compare a converted dataset with the cases of its source; ``pieces`` of the converted cases have a mask.

    Raises:
        InputError: it cannot be read back, or the number of cases or of foreground voxels differs.
    """
    if not pieces:
        return
    try:  # facts are measured on every file, so every file is read completely
        found = read_layout(target, folder, **_OPTIONS.get(target, {})).manifest.cases
    except InputError as error:
        raise InputError(f"the converted dataset cannot be read back and was removed: {error}") from None
    labelled = [case for case in found if case.label]
    if len(labelled) != pieces:
        raise InputError(f"{pieces} cases with masks were written, {len(labelled)} came back; all was removed")
    wanted: list[Any] = [case.facts.get("foreground") for case in cases if case.label]
    # Layouts without ignored pixels count them.
    if None in wanted or manifest.ignore_index is not None:
        return
    before, after = sum(wanted), sum(case.facts.get("foreground") or 0 for case in labelled)
    if before != after:
        raise InputError(f"the masks hold {before} foreground voxels, {after} came back; all was removed")
