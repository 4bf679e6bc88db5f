"""The order of slices: by number, never by name (``x_10`` comes after ``x_9``)."""

import re

_TRAILING_NUMBER = re.compile(r"^(?P<prefix>.*?)(?P<number>\d+)$", re.DOTALL)


def split_number(stem: str) -> tuple[str, int | None]:
    """Split a file's stem into its prefix and its trailing number.

    Example:
        >>> split_number("TCGA_CS_4941_19960909_10")
        ('TCGA_CS_4941_19960909_', 10)
        >>> split_number("scan")
        ('scan', None)
    """
    match = _TRAILING_NUMBER.match(stem)
    return (match["prefix"], int(match["number"])) if match else (stem, None)


def slice_key(stem: str) -> tuple[str, int, str]:
    """Return a sort key: prefix, then trailing number, then the name itself (``x_1`` and ``x_01``).

    Example:
        >>> sorted(["x_10", "x_9", "x_1"], key=slice_key)
        ['x_1', 'x_9', 'x_10']
    """
    prefix, number = split_number(stem)
    return prefix, -1 if number is None else number, stem
