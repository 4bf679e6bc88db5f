"""Find the groups of near duplicates that a split must keep together."""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets.checks.integrity import explain_missing_dataset
from pipeline.datasets.checks.leaks.copies import group_near_duplicates
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.issues import InputError


def find_near_groups(manifest: Manifest, root: Path) -> list[frozenset[str]]:
    """Return sets of case ids whose images are near duplicates of each other.

    Args:
        manifest: the dataset.
        root: folder that the manifest's paths are relative to.

    Raises:
        InputError: the folder does not hold the dataset.
    """
    problem = explain_missing_dataset(manifest, root, manifest.cases)
    if problem:
        raise InputError("; ".join(part for part in (problem.message, problem.hint) if part))
    return group_near_duplicates(manifest, root)
