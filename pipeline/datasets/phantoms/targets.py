"""Where phantoms are written to, and the sizes that they can have."""

from __future__ import annotations

from pathlib import Path

from pipeline.issues import InputError


def make_folder(folder: Path) -> Path:
    """Make a new folder and those above it.

    Raises:
        InputError: it is there already, or cannot be made.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"{folder} exists already; remove it or choose another folder") from None
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    return folder


def require_range(name: str, value: int, low: int, high: int | None = None) -> None:
    """Refuse a number that is out of range.

    Raises:
        InputError: names the argument, the range and the value.

    Example:
        >>> require_range("size", 8, 32, 1024)
        Traceback (most recent call last):
        pipeline.issues.InputError: size must be 32 to 1024, got 8
    """
    if value < low or (high is not None and value > high):
        expected = f"{low} to {high}" if high is not None else f"at least {low}"
        raise InputError(f"{name} must be {expected}, got {value}")
