"""The cases in a batch."""

from collections.abc import Mapping
from typing import Any


def list_case_ids(batch: Any) -> list[str]:
    """List the case ids of a batch in order, without repetition.

    Args:
        batch: a dict with a list under ``case_id``, or MONAI's decollated list of dicts.

    Example:
        >>> list_case_ids({"case_id": ["a", "a", "b"]}), list_case_ids([{"case_id": "a"}, {"image": 0}])
        (['a', 'b'], ['a'])
    """
    if isinstance(batch, Mapping):
        found = batch.get("case_id", [])
        return list(dict.fromkeys([found] if isinstance(found, str) else map(str, found)))
    if isinstance(batch, (list, tuple)):
        return list(dict.fromkeys(case_id for item in batch for case_id in list_case_ids(item)))
    return []
