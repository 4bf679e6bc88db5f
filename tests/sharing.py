"""What each worker of pytest-xdist gets: tests that share something slow together, and what takes longest first.

Files are the units otherwise. With the longest at the end, one worker would work alone while the others wait.
"""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadFileScheduling

# Units in the order in which they are begun, and where their tests are. The tests of a unit share processes or a
# training that every worker would have to start for itself.
UNITS = {
    "two processes": ("tests/fault/", "tests/parallel/", "tests/losses/", "tests/bundles/test_multi_gpu.py"),
    "tuning": ("tests/tuning/",),
    "documents": ("tests/docs/test_blocks.py",),
}
# Files whose tests share nothing slow but what belongs to one bundle: each bundle is a unit.
BY_BUNDLE = ("tests/bundles/test_workflows.py", "tests/bundles/test_real_data.py")
# Other long ones.
LONG = (
    *("tests/bundle/test_training.py", "tests/security/test_names.py", "tests/bundles/", "tests/crf/"),
    *("tests/bundle/", "tests/datasets/coco/", "tests/transforms/io/"),
)
_ORDER = [*(place for places in UNITS.values() for place in places), *BY_BUNDLE, *LONG]


def name_unit(nodeid: str) -> str:
    """Name the unit that a test belongs to.

    Example:
        >>> name_unit("tests/tuning/test_tune.py::test_a"), name_unit("tests/crf/test_input.py::test_b[3]")
        ('tuning', 'tests/crf/test_input.py')
        >>> name_unit("tests/bundles/test_workflows.py::test_c[lgg_unet-0]")
        'tests/bundles/test_workflows.py[lgg_unet'
    """
    path = nodeid.partition("::")[0]
    if path in BY_BUNDLE:
        return path + "".join(re.findall(r"\[\w+", nodeid)[:1])
    return next((unit for unit, places in UNITS.items() if path.startswith(places)), path)


def sort_longest_first(items: list[pytest.Item]) -> None:
    """Sort tests in the order in which their units are begun."""
    items.sort(key=lambda item: next((n for n, place in enumerate(_ORDER) if item.nodeid.startswith(place)), 99))


class UnitScheduling(LoadFileScheduling):
    """Give a unit to one worker, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return name_unit(nodeid)
