"""Checks of a dataset against its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets.digests import map_threads
from pipeline.datasets.files import check_digest, check_presence
from pipeline.datasets.manifest import Case, Manifest
from pipeline.issues import Issue


def find_load_problems(manifest: Manifest, root: Path, cases: Sequence[Case]) -> list[Issue]:
    """Return what must stop a training run."""

    def check(case: Case) -> list[Issue]:
        found = []
        for path in case.files():
            issue = check_presence(root, path, case.case_id)
            if issue is None and path in case.sha256:
                issue = check_digest(root, path, case.sha256[path], case.case_id)
            found.append(issue)
        return [issue for issue in found if issue]

    return [issue for issues in map_threads(check, cases) for issue in issues]
