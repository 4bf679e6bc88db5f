"""Values of cases as sums by subject, because cases of one subject are not independent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def sum_by_subject(values: ArrayLike, subjects: Sequence[str] | None = None) -> tuple[Array, Array]:
    """Return the sum and the number of the finite values of each subject that has one, each (S,).

    Args:
        values: (N,), NaN or infinite where a case has no value.
        subjects: (N,), the subject of each case; None if each case is one.

    Raises:
        ValueError: there is not one subject a value.

    Example:
        >>> sums, counts = sum_by_subject([0.5, 1.0, 0.25], ["a", "b", "a"])
        >>> sums.tolist(), counts.tolist()
        ([0.75, 1.0], [2.0, 1.0])
    """
    array, places = group(values, subjects)
    count = int(places.max()) + 1 if len(places) else 0
    return np.bincount(places, array, count).astype(float), np.bincount(places, minlength=count).astype(float)


def group(values: ArrayLike, subjects: Sequence[str] | None = None) -> tuple[Array, NDArray[np.intp]]:
    """Return the finite values, and for each the number of its subject from 0, in order of the subjects' names.

    Raises:
        ValueError: there is not one subject a value.
    """
    array = np.asarray(values, dtype=float).reshape(-1)
    known = np.isfinite(array)
    if subjects is None:
        return array[known], np.arange(int(known.sum()))
    if len(subjects) != len(array):
        raise ValueError(f"expected one subject a value, got {len(subjects)} subjects and {len(array)} values")
    names = [name for name, is_known in zip(subjects, known, strict=True) if is_known]
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    return array[known], np.array([places[name] for name in names], dtype=np.intp)
