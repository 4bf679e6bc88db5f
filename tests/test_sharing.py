"""The units of `tests.sharing` name files and folders that exist."""

from pathlib import Path

from tests.sharing import BY_BUNDLE, LONG, UNITS


def test_places_exist(repository: Path) -> None:
    for place in (*(place for places in UNITS.values() for place in places), *BY_BUNDLE, *LONG):
        assert (repository / place).exists(), place
