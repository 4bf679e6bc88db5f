from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits import edit_memory

CACHE = {"_target_": "CacheDataset", "cache_rate": "@cache_rate"}
RESIZE = {"_target_": "Resized", "keys": "image"}


@pytest.mark.parametrize(
    ("shape", "steps", "rate", "words"),
    [
        ([512, 512], [], 1.0, []),
        # Six pictures of 500 megapixels: 8 bytes each for image and mask are 24 GB, as bytes of the mask alone 3.
        ([20000, 25000], [], 0.33, ["for all cases would take 24 GB", "500 megapixels"]),
        ([20000, 25000], [RESIZE], 1.0, []),
        (None, [], 1.0, []),
    ],
)
def test_no_more_cases_are_cached_than_fit(
    make_draft: Callable[..., Draft],
    grey: UserDataset,
    shape: list[int] | None,
    steps: list[dict[str, Any]],
    rate: float,
    words: list[str],
) -> None:
    cases = tuple(replace(case, facts={"shape": shape}) for case in grey.manifest.cases)
    dataset = replace(grey, manifest=replace(grey.manifest, cases=cases))
    draft = make_draft({"cache_rate": 1.0, "data": CACHE, "steps": steps}, dataset)
    edit_memory(draft)
    assert draft.train["cache_rate"] == rate
    assert len(draft.changes) == len(words)
    assert all(word in change for word, change in zip(words, draft.changes, strict=True))
