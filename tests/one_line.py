"""Expect errors that commands answer in one line, however deeply MONAI has wrapped them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.handlers.run.exits import find_line


@contextmanager
def expect_line(pattern: str = "") -> Iterator[list[str]]:
    """Expect such an error, and a pattern in its line; the list holds the line afterwards."""
    lines: list[str] = []
    with pytest.raises(Exception) as caught:  # noqa: PT011
        yield lines
    line = str(find_line(caught.value))
    assert re.search(pattern, line), line
    assert "\n" not in line
    lines.append(line)
