"""The cached cases of every bundle stay as they were loaded, whatever the random steps of training draw."""

from __future__ import annotations

from pathlib import Path

from tests.bundles.conftest import FAMILIES
from tests.cached_items import find_rot, find_writers, read_training

# One of each chain: the bundles of a family differ in their networks.
QUICK = FAMILIES


def test_200_epochs_leave_the_cache_as_it_is(bundle: Path, data: dict[str, str]) -> None:
    assert find_rot(read_training(bundle, {"bundle_root": str(bundle), **data}), epochs=200) == []


def test_no_random_step_alone_reaches_the_cache(bundle: Path, data: dict[str, str]) -> None:
    assert find_writers(read_training(bundle, {"bundle_root": str(bundle), **data})) == {}
