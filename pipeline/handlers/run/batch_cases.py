"""The cases in a batch or a dataset: their names, and whether a client of the bundle brought them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from monai.data import MetaTensor
from monai.utils import ImageMetaKey

_ID, _IMAGE = "case_id", "image"


def list_case_ids(batch: Any) -> list[str]:
    """List the case ids of a batch in order, without repetition; without ids, the names of the images' files.

    Args:
        batch: a dict with a list under ``case_id``, or MONAI's decollated list of dicts.

    Example:
        >>> list_case_ids({"case_id": ["a", "a", "b"]}), list_case_ids([{"case_id": "a"}, {"image": 0}])
        (['a', 'b'], ['a'])
        >>> list_case_ids({"image": MetaTensor([0], meta={"filename_or_obj": "scans/b.nii.gz"})})
        ['b']
    """
    if isinstance(batch, Mapping):
        found = batch[_ID] if _ID in batch else _list_file_names(batch.get(_IMAGE))
        return list(dict.fromkeys([found] if isinstance(found, str) else map(str, found)))
    if isinstance(batch, (list, tuple)):
        return list(dict.fromkeys(case_id for item in batch for case_id in list_case_ids(item)))
    return []


def name_item(item: Mapping[str, Any]) -> str | None:
    """Return the id of a dataset's item; without one, the name of its image's first file, None if that is unknown.

    Example:
        >>> name_item({"image": ["scans/7_1.png", "scans/7_2.png"]})
        '7_1'
    """
    if _ID in item:
        return str(item[_ID])
    image = item.get(_IMAGE)
    names = _list_file_names(image) or _list_paths(image if isinstance(image, (list, tuple)) else [image])
    return names[0] if names else None


def list_items(loader: Any) -> Sequence[Any]:
    """Return the items of a loader's dataset, as they were given to it; nothing if it does not keep them."""
    items = getattr(getattr(loader, "dataset", None), "data", None)
    return items if isinstance(items, Sequence) and not isinstance(items, str) else ()


def is_handed_over(loader: Any) -> bool:
    """Return whether a client of the bundle brought the cases, instead of `pipeline.datasets.load_datalist`.

    Clients such as MONAI Label replace ``train#dataset#data`` with items of their own, which have no ``case_id``.

    Example:
        >>> from monai.data import DataLoader, Dataset
        >>> [is_handed_over(DataLoader(Dataset([item]))) for item in ({"case_id": "a"}, {"image": "a.png"})]
        [False, True]
    """
    return any(isinstance(item, Mapping) and _ID not in item for item in list_items(loader))


def has_no_cases(evaluator: Any) -> bool:
    """Return whether an evaluator has no cases, as where a client splits off none; MONAI then skips the validation."""
    return getattr(getattr(evaluator, "state", None), "epoch_length", None) == 0


def _list_file_names(image: Any) -> list[str]:
    files = image.meta.get(ImageMetaKey.FILENAME_OR_OBJ, ()) if isinstance(image, MetaTensor) else ()
    return _list_paths(files if isinstance(files, (list, tuple)) else [files])


def _list_paths(files: Iterable[Any]) -> list[str]:
    names = [PurePath(file).name for file in files if isinstance(file, str | os.PathLike)]
    return [PurePath(name.removesuffix(".gz")).stem for name in names if name]
